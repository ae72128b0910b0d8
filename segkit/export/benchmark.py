"""benchmark(): one network in every form that it can be exported in, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from segkit import contract
from segkit.client import LocalSegmenter
from segkit.contract import Metadata
from segkit.engines import open_variant
from segkit.engines.variants import Variant, VariantName
from segkit.errors import EngineUnavailable, SegkitError
from segkit.evaluation.agreement import Agreement, compare
from segkit.evaluation.latency import Latency, measure_latency
from segkit.evaluation.proof import Contestant
from segkit.evaluation.real_images import RealImages
from segkit.export import tensorrt_preflight
from segkit.export.formats import TENSORFLOW, write_variant
from segkit.export.proof import open_contestant
from segkit.export.publish import publish
from segkit.export.segmentation import class_ids
from segkit.export.tensorrt import EngineSettings, without_fallback
from segkit.export.tensorrt_source import read_checkpoint
from segkit.export.tensorrt_version import write_tensorrt_version
from segkit.video.resize import resize_image

__all__ = ["KERAS", "TENSORRT", "Figures", "FormatRow", "Subject", "benchmark", "images_per_second"]

KERAS = "keras"  # the row of the checkpoint itself
TENSORRT = VariantName("tensorrt", "float16")  # a version of its own, where there is a GPU

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is exported.

    Args:
        checkpoint: The file, or its run folder.
        model: Its network: float32 RGB 0..255 (B, H, W, 3) -> float32 logits.
        metadata: What its exports say of themselves; its batch sizes are those that are measured.
        reference: The model as one of two to compare.
        images: What all are shown.
        calibration: For int8: uint8 (H, W, 3), RGB, at the model's size.
    """

    checkpoint: Path
    model: tf.keras.Model
    metadata: Metadata
    reference: Contestant
    images: RealImages
    calibration: Sequence[UInt8] = ()


@dataclass(frozen=True, kw_only=True)
class FormatRow:
    """One form.

    Args:
        name: ENGINE:PRECISION, or KERAS.
        status: "ok", "skipped" (it is not to be had on this machine) or "failed".
        reason: Why, if it is not ok.
        size_bytes: Of its files.
        agreement: With the checkpoint.
        latencies: One for each batch size.
    """

    name: str
    status: str = "ok"
    reason: str = ""
    size_bytes: int | None = None
    agreement: Agreement | None = None
    latencies: tuple[Latency, ...] = ()

    @property
    def mean_iou(self) -> float | None:
        """Against the labels; None without labels."""
        if self.agreement is None or self.agreement.mean_ious is None:
            return None
        return self.agreement.mean_ious[1]

    def to_json(self) -> dict[str, Any]:
        """The same as what json.dumps takes."""
        return {
            "format": self.name,
            "status": self.status,
            "reason": self.reason,
            "size_bytes": self.size_bytes,
            "mean_iou": self.mean_iou,
            **({} if self.agreement is None else {"agreement": self.agreement.share}),
            "latencies": [
                {**asdict(row), "images_per_second": images_per_second(row)}
                for row in self.latencies
            ],
        }


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured.

    Args:
        rows: The checkpoint first, then each form.
        device: What the checkpoint ran on.
        source: Where the images came from.
        num_images: How many they were.
    """

    rows: tuple[FormatRow, ...]
    device: str
    source: str
    num_images: int


def images_per_second(latency: Latency) -> float:
    """Throughput of one batch after the other."""
    return 1e3 * latency.batch_size / latency.p50_ms


def benchmark(
    subject: Subject,
    names: Sequence[VariantName],
    folder: Path,
    *,
    repeats: int,
    say: Callable[[str], None],
) -> Figures:
    """Exports every form, compares it on the images, and times all in turns.

    Args:
        subject: What to export.
        names: The forms.
        folder: An empty folder to export to.
        repeats: Measured runs of each form and batch size.
        say: Told what is under way.
    """
    version = publish(subject.model, subject.metadata, folder)
    with ExitStack() as stack:
        opened: dict[str, LocalSegmenter] = {}
        rows = [_keras_row(subject)]
        for name in names:
            say(f"exporting {name}")
            row, local = _export(subject, version, name)
            if local is not None:
                opened[row.name] = stack.enter_context(local)
            else:
                say(f"  {row.status}: {row.reason}")
            rows.append(row)
        latencies = _measure(subject, opened, repeats=repeats, say=say)
    return Figures(
        rows=tuple(replace(row, latencies=tuple(latencies.get(row.name, ()))) for row in rows),
        device=subject.reference.device,
        source=subject.images.source,
        num_images=len(subject.images.images),
    )


def _keras_row(subject: Subject) -> FormatRow:
    predictor = subject.reference.predictor
    return FormatRow(
        name=KERAS,
        size_bytes=subject.reference.size_bytes,
        agreement=compare(predictor, predictor, subject.images.images),
    )


def _export(
    subject: Subject, version: Path, name: VariantName
) -> tuple[FormatRow, LocalSegmenter | None]:
    try:
        if name == TENSORRT:
            version = _convert(subject, version.with_name("tensorrt"))
            variant = Variant.of(TENSORFLOW, version, "")
        else:
            variant = write_variant(subject.model, version, name, calibration=subject.calibration)
        local = LocalSegmenter(open_variant(version, variant))
    except SegkitError as err:
        status = "skipped" if isinstance(err, EngineUnavailable) else "failed"
        return FormatRow(name=str(name), status=status, reason=err.problem), None
    candidate = open_contestant(local, variant).predictor
    agreement = compare(subject.reference.predictor, candidate, subject.images.images)
    return FormatRow(name=str(name), size_bytes=variant.size_bytes, agreement=agreement), local


def _convert(subject: Subject, version_dir: Path) -> Path:
    """The version with TensorRT engines. UNTESTED ON A GPU."""
    found = tensorrt_preflight.preflight()
    if found.missing:
        raise EngineUnavailable("; ".join(found.missing))
    source = read_checkpoint(subject.checkpoint, image_size=subject.metadata.image_size)
    settings = EngineSettings(batch_sizes=tuple(sorted(subject.metadata.batch_sizes)))
    version_dir.mkdir()
    with without_fallback():
        write_tensorrt_version(
            source,
            version_dir,
            settings,
            machine=found.machine,
            model_name=contract.DEFAULT_MODEL_NAME,
        )
    return version_dir


def _measure(
    subject: Subject,
    opened: dict[str, LocalSegmenter],
    *,
    repeats: int,
    say: Callable[[str], None],
) -> dict[str, list[Latency]]:
    bare = _keras_function(subject.model)
    latencies: dict[str, list[Latency]] = {name: [] for name in (KERAS, *opened)}
    devices = dict.fromkeys(latencies, subject.reference.device)
    for batch_size in subject.metadata.batch_sizes:
        say(f"measuring batch size {batch_size}")
        batch = _batch(subject, batch_size)
        ways: dict[str, Callable[[], object]] = {KERAS: partial(bare, batch)}
        ways |= {name: partial(local.segment, batch) for name, local in opened.items()}
        for row in measure_latency(ways, repeats=repeats, batch_size=batch_size, devices=devices):
            latencies[row.engine].append(row)
    return latencies


def _keras_function(model: tf.keras.Model) -> Callable[[UInt8], UInt8]:
    @tf.function(autograph=False, reduce_retracing=True)
    def segment(image: tf.Tensor) -> tf.Tensor:
        return class_ids(model(tf.cast(image, tf.float32), training=False))

    return lambda batch: segment(tf.constant(batch)).numpy()


def _batch(subject: Subject, batch_size: int) -> UInt8:
    images = subject.images.images
    chosen = [images[index % len(images)].image for index in range(batch_size)]
    return np.stack([resize_image(image, subject.metadata.image_size) for image in chosen])
