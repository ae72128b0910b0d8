"""Converts a model to TensorRT engines for the GPU of this machine, proved on real images.

First it looks whether TensorRT and a GPU are here and predicts how many engines there will be. The
version has the signatures of the one it is made of, and its engines run on this kind of GPU alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segkit import contract
from segkit.commands.export import DEFAULT_BASE_PATH, check_batch_sizes
from segkit.commands.proof_options import ProofOptions, require_data
from segkit.errors import ConfigError, ExportError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segkit.evaluation.real_images import RealImages
    from segkit.export.tensorrt import EngineSettings
    from segkit.export.tensorrt_source import Source

__all__ = ["DEFAULT_OUTPUT", "Options", "run"]

DEFAULT_OUTPUT = Path("checkpoints/export_path_trt")
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Options(ProofOptions):
    """Flags of the conversion."""

    image_size: tuple[int, int] | None = None
    """height and width to convert at; those of the source by default"""
    input_saved_model_dir: Path = DEFAULT_BASE_PATH
    """what to convert: a version that segkit published, or the folder of versions for the latest"""
    checkpoint: Path | None = None
    """convert a run folder (its best checkpoint) or a .h5 instead of a published version"""
    output_saved_model_dir: Path = DEFAULT_OUTPUT
    """the folder of numbered versions to write to"""
    floating_mode: Literal["FP32", "FP16", "INT8"] = "FP16"
    """the lowest precision that TensorRT may compute in"""
    calibration: str | None = None
    """for INT8: images to find the ranges on, KIND:PATH (its train split) or images:PATH"""
    num_calibration_images: int = 200
    """how many of them, spread evenly"""
    batch_sizes: list[int] = field(default_factory=lambda: [1, 2, 4, 8])
    """batch sizes to build engines for and to warm up: the server's allowed_batch_sizes"""
    minimum_segment_size: int = 3
    """nodes that a part of the network must have to become an engine"""
    workspace_mib: int | None = None
    """GPU memory in MiB that a TensorRT kernel may take for itself; no limit by default"""
    model_name: str = contract.DEFAULT_MODEL_NAME
    """the name it will be served under"""
    dry_run: bool = False
    """look and predict, convert nothing; the exit status is 0 on any machine"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_batch_sizes(self.batch_sizes)
        if 1 not in self.batch_sizes:
            raise ConfigError(
                f"--batch_sizes is {' '.join(map(str, self.batch_sizes))}",
                expected="1 among them: a client that sends one image has to find an engine",
            )
        for flag in ("minimum_segment_size", "workspace_mib", "num_calibration_images"):
            value = getattr(self, flag)
            if value is not None and value < 1:
                raise ConfigError(f"--{flag} is {value}", expected="a whole number of 1 or more")
        if self.checkpoint is not None and self.input_saved_model_dir != DEFAULT_BASE_PATH:
            raise ConfigError(
                "both --input_saved_model_dir and --checkpoint are given",
                expected="one of them: either is what to convert",
            )
        if self.floating_mode == "INT8" and self.calibration is None:
            raise ConfigError(
                "--floating_mode is INT8 and --calibration is not given",
                expected="real images: TensorRT finds the range of every layer on them",
                next_step="--calibration KIND:PATH, such as that of the training set, or "
                "--calibration images:FOLDER",
            )
        if self.floating_mode != "INT8" and self.calibration is not None:
            raise ConfigError(
                f"--calibration is given and --floating_mode is {self.floating_mode}",
                expected="it with INT8 alone: nothing else is calibrated",
                next_step="add --floating_mode INT8, or leave --calibration out",
            )


def run(options: Options) -> None:
    """Looks, predicts, converts, proves."""
    import os

    # TensorFlow would take all of the GPU's memory, and TensorRT needs some that is not its own.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

    from segkit.commands.convert_container import container_command
    from segkit.export import tensorrt_preflight  # takes seconds: it brings TensorFlow

    found = tensorrt_preflight.preflight()
    print(found.render(), flush=True)
    data = "" if found.missing or options.dry_run else require_data(options, options.checkpoint)
    source = _read_source(options)
    print(f"\n{_predict(source, options)}", flush=True)
    if options.dry_run:
        print("\nnothing was converted (--dry_run)")
        return
    if found.missing:
        raise ExportError(
            "nothing was converted: " + "; ".join(found.missing),
            expected="TensorRT 8.6.1 and the kind of GPU that will serve: the library that runs an "
            "engine has to be the one that built it",
            next_step="on the machine with that GPU, in the container that has both:\n"
            f"    {container_command(options)}",
        )
    _convert(source, options, data, found.machine)


def _read_source(options: Options) -> Source:
    from segkit.commands.eval_target import find_version
    from segkit.export.tensorrt_source import read_checkpoint, read_version

    if options.checkpoint is not None:
        return read_checkpoint(options.checkpoint, image_size=options.image_size)
    version = find_version(options.input_saved_model_dir)
    return read_version(version, image_size=options.image_size)


def _predict(source: Source, options: Options) -> str:
    """What `tensorrt-report` says of the network."""
    from segkit.export.tensorrt_report import report
    from segkit.export.tensorrt_text import render
    from segkit.models.graph import float_core, freeze

    height, width = source.metadata.image_size
    return render(
        report(
            freeze(float_core(source.model)),
            subject=f"{source.name}: {source.model.name}, {height}x{width}",
            minimum_segment_size=options.minimum_segment_size,
            layers=[layer.name for layer in source.model.layers],
        )
    )


def _convert(source: Source, options: Options, data: str, machine: Mapping[str, str]) -> None:
    from segkit.evaluation.real_images import read_images
    from segkit.export.publishing import new_version
    from segkit.export.tensorrt import without_fallback
    from segkit.export.tensorrt_version import write_tensorrt_version

    labels = source.metadata.labels
    images = read_images(data, labels, limit=options.num_images)
    calibration = _read_calibration(source, options)
    settings = _settings(options)
    print(
        f"\nconverting {source.name} to {options.output_saved_model_dir}: {options.floating_mode}, "
        f"batch sizes {', '.join(map(str, settings.batch_sizes))}; this takes minutes",
        flush=True,
    )
    with without_fallback(), new_version(options.output_saved_model_dir) as incoming:
        write_tensorrt_version(
            source,
            incoming.path,
            settings,
            machine=machine,
            model_name=options.model_name,
            calibration=calibration,
            report=lambda core: print(core.render(), flush=True),
        )
        _prove(incoming.path, source, images, options)
    print(
        f"published {incoming.version}: it runs on {machine['gpu']} (compute capability "
        f"{machine['compute_capability']}) with TensorRT {machine['tensorrt']}, and nowhere else\n"
        f"serve it: MODEL_BASE_PATH={options.output_saved_model_dir} docker compose up serving"
    )


def _read_calibration(source: Source, options: Options) -> list[Any]:
    """Images of the model's size; none where nothing is calibrated."""
    from segkit.evaluation.real_images import read_images
    from segkit.video.resize import resize_image

    if options.calibration is None:
        return []
    given = read_images(
        options.calibration,
        source.metadata.labels,
        limit=options.num_calibration_images,
        split="train",
    )
    return [resize_image(shown.image, source.metadata.image_size) for shown in given.images]


def _settings(options: Options) -> EngineSettings:
    from segkit.export.tensorrt import EngineSettings

    workspace = options.workspace_mib
    return EngineSettings(
        floating_mode=options.floating_mode,
        batch_sizes=tuple(sorted(options.batch_sizes)),
        minimum_segment_size=options.minimum_segment_size,
        workspace_bytes=None if workspace is None else workspace * MIB,
    )


def _prove(version_dir: Path, source: Source, images: RealImages, options: Options) -> None:
    """Holds the engines to the Keras model before the version gets its number.

    Raises:
        ExportError: They answer otherwise, beyond the thresholds, or not at every batch size.
    """
    from segkit.client import LocalSegmenter
    from segkit.engines import open_variant
    from segkit.engines.variants import Variant, write_variants
    from segkit.evaluation.latency import tensorflow_device
    from segkit.evaluation.predictors import ModelPredictor
    from segkit.evaluation.proof import Contestant, prove
    from segkit.export.formats import TENSORFLOW
    from segkit.export.proof import open_contestant
    from segkit.export.tensorrt_check import check_batch_sizes
    from segkit.video.resize import resize_image

    reference = Contestant(
        name=f"Keras model of {source.name}",
        predictor=ModelPredictor(source.reference, source.metadata.labels),
        device=tensorflow_device(),
    )
    variant = Variant.of(TENSORFLOW, version_dir, "")
    # In a session of its own, where the engines of two versions do not meet under one name.
    with LocalSegmenter(engine := open_variant(version_dir, variant)) as local:
        image = resize_image(images.images[0].image, source.metadata.image_size)
        check_batch_sizes(engine, image, options.batch_sizes, min_agreement=options.min_agreement)
        candidate = replace(
            open_contestant(local, variant), name=f"TensorRT {options.floating_mode}"
        )
        proof = prove(reference, candidate, images, thresholds=options.thresholds)
    print(proof.render(), flush=True)
    if proof.failures:
        raise ExportError(
            f"the engines do not answer as {source.name} does: {'; '.join(proof.failures)}",
            expected="no more difference than --min_agreement and --max_miou_drop allow",
            next_step="nothing was published; convert with a higher --floating_mode (INT8, FP16, "
            "FP32), for INT8 give more images to --calibration, or allow more",
        )
    write_variants(version_dir, (replace(variant, proof=proof.to_json()),))
