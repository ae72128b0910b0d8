"""Publishes a checkpoint as the next version of a served model, proved on real images.

A version has the four signatures of the serving contract, warm-up records and segkit.json. It is
published only if each of its forms answers as the checkpoint does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from segkit import contract
from segkit.commands.proof_options import ProofOptions, require_data
from segkit.engines.variants import VariantName
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.contract import Metadata

__all__ = ["Options", "check_batch_sizes", "publish_and_report", "run"]

DEFAULT_BASE_PATH = Path("checkpoints/export_path")


@dataclass(frozen=True, kw_only=True)
class Options(ProofOptions):
    """Flags of the export."""

    checkpoint: Path
    """a run folder (its best checkpoint), or a .h5 of its checkpoints/"""
    model_base_path: Path = DEFAULT_BASE_PATH
    """the folder of numbered versions that the server polls"""
    model_name: str = contract.DEFAULT_MODEL_NAME
    """the name it will be served under"""
    image_size: tuple[int, int] | None = None
    """height and width to serve at; those of the training by default"""
    batch_sizes: list[int] = field(default_factory=lambda: [1])
    """batch sizes that the server shall be warmed up for"""
    format: list[str] = field(default_factory=lambda: ["tensorflow"])
    """what the version can be run by: tensorflow (the SavedModel, always written), openvino,
    tflite, onnx, each with :PRECISION if you like, as in openvino:bfloat16 tflite:int8"""
    calibration: str | None = None
    """for int8: images to find the ranges on, KIND:PATH (its train split) or images:PATH; the data
    set of --data by default"""
    num_calibration_images: int = 200
    """how many of them, spread evenly"""
    keep: int | None = None
    """afterwards remove all versions but the newest so many; none are removed by default"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_batch_sizes(self.batch_sizes)
        for flag in ("num_calibration_images", "keep"):
            value = getattr(self, flag)
            if value is not None and value < 1:
                raise ConfigError(f"--{flag} is {value}", expected="1 or more")
        if not self.model_name:
            raise ConfigError("--model_name is empty", expected="a name, such as segkit")
        _ = self.variants

    @property
    def variants(self) -> tuple[VariantName, ...]:
        """The forms of the version, each once, the SavedModel first.

        Raises:
            ConfigError: One of --format is unknown.
        """
        names = [VariantName.parse(text, flag="--format") for text in self.format]
        tensorflow = [name for name in names if name.engine == "tensorflow"]
        return tuple(dict.fromkeys([*(tensorflow or [VariantName("tensorflow")]), *names]))


def run(options: Options) -> None:
    """Exports and says what to do next."""
    publish_and_report(options)


def publish_and_report(options: Options) -> None:
    """Exports, prints the proofs, what was written, and the commands that serve it."""
    from segkit.export import export_checkpoint
    from segkit.export.checkpoint import Evidence, ExportPlan
    from segkit.export.publishing import prune_versions
    from segkit.models.checkpoints import read_record

    read_record(options.checkpoint)  # a wrong file is named before missing images are
    data = require_data(options, options.checkpoint)
    names = ", ".join(map(str, options.variants))
    print(f"exporting {options.checkpoint} to {options.model_base_path}: {names}", flush=True)
    plan = ExportPlan(
        checkpoint=options.checkpoint,
        base_path=options.model_base_path,
        evidence=Evidence(
            data=data,
            num_images=options.num_images,
            thresholds=options.thresholds,
            calibration=options.calibration,
            num_calibration_images=options.num_calibration_images,
        ),
        model_name=options.model_name,
        image_size=options.image_size,
        batch_sizes=tuple(options.batch_sizes),
        variants=options.variants,
    )
    version, metadata = export_checkpoint(
        plan, report=lambda proof: print(proof.render(), flush=True)
    )
    print(_summary(version, metadata, options.model_base_path), flush=True)
    if options.keep is not None:
        removed = prune_versions(options.model_base_path, options.keep)
        print(f"removed {', '.join(map(str, removed)) or 'no version'} (--keep {options.keep})")


def check_batch_sizes(batch_sizes: list[int]) -> None:
    """Refuses what is no list of batch sizes.

    Raises:
        ConfigError: It is empty, holds a number below 1, or one twice.
    """
    if not batch_sizes or min(batch_sizes) < 1 or len(set(batch_sizes)) != len(batch_sizes):
        raise ConfigError(
            f"--batch_sizes is {' '.join(map(str, batch_sizes)) or 'empty'}",
            expected="different whole numbers of 1 or more, as in 1 2 4",
        )


def _summary(version: Path, metadata: Metadata, base_path: Path) -> str:
    height, width = metadata.image_size
    score = "unknown" if metadata.val_mean_iou is None else f"{metadata.val_mean_iou:.3f}"
    return (
        f"published {version}: {metadata.architecture}, {height}x{width}, "
        f"{metadata.labels.num_classes} classes, val mean_iou {score}\n"
        f"signatures {', '.join(contract.SIGNATURES)}\n"
        f"serve it: docker compose up serving\n"
        f"      or: python -m segkit serve --model_base_path {base_path}"
    )
