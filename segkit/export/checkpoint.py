"""export_checkpoint(): from a checkpoint of train.py to a published, proved version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from segkit import contract
from segkit.contract import Metadata
from segkit.engines.variants import Variant, VariantName
from segkit.evaluation.latency import tensorflow_device
from segkit.evaluation.predictors import ModelPredictor
from segkit.evaluation.proof import Contestant, Proof, Thresholds
from segkit.evaluation.real_images import RealImages, read_images
from segkit.export.formats import TENSORFLOW, needs_calibration
from segkit.export.proof import prove_version
from segkit.export.publish import publish
from segkit.labels import LabelMap
from segkit.models import get_network
from segkit.models.checkpoints import (
    CheckpointRecord,
    checkpoint_file,
    digest,
    load_checkpoint,
)
from segkit.runs import library_versions
from segkit.video.resize import resize_image

__all__ = ["Evidence", "ExportPlan", "describe_checkpoint", "export_checkpoint", "keras_contestant"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The real images of an export.

    Args:
        data: What it is proved on, see `read_images`; the val split.
        num_images: How many of them at most.
        thresholds: What is allowed.
        calibration: What int8 finds its ranges on; the train split. `data` if None.
        num_calibration_images: How many of them at most.
    """

    data: str
    num_images: int = 100
    thresholds: Thresholds = field(default_factory=Thresholds)
    calibration: str | None = None
    num_calibration_images: int = 200

    def read(self, labels: LabelMap) -> RealImages:
        """The images to prove it on."""
        return read_images(self.data, labels, limit=self.num_images)

    def read_calibration(
        self, labels: LabelMap, image_size: tuple[int, int]
    ) -> list[npt.NDArray[np.uint8]]:
        """The images to calibrate by, at the model's size."""
        images = read_images(
            self.calibration or self.data, labels, limit=self.num_calibration_images, split="train"
        )
        return [resize_image(shown.image, image_size) for shown in images.images]


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What is exported, and as what.

    Args:
        checkpoint: The file, or a run folder, which stands for its best checkpoint.
        base_path: The folder of numbered versions that the server polls.
        evidence: The images that it is proved on.
        model_name: The name it will be served under.
        image_size: Height and width to serve at; those of the training if None.
        batch_sizes: Batch sizes to warm up for.
        variants: The forms of the version. A SavedModel is always among its files.
    """

    checkpoint: Path
    base_path: Path
    evidence: Evidence
    model_name: str = contract.DEFAULT_MODEL_NAME
    image_size: tuple[int, int] | None = None
    batch_sizes: tuple[int, ...] = (1,)
    variants: tuple[VariantName, ...] = (TENSORFLOW,)


def export_checkpoint(
    plan: ExportPlan, *, report: Callable[[Proof], None] = lambda proof: None
) -> tuple[Path, Metadata]:
    """Publishes the next version of a checkpoint, once every variant of it is proved.

    Args:
        plan: What to export.
        report: Told of each proof, whatever its outcome.

    Returns:
        The folder of the new version, and what it says of itself.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
        ModelError: The image size does not fit the network.
        DataError: There are no images to prove it on.
        ExportError: It does not answer as the checkpoint does, or see `publish`.
    """
    model, record = load_checkpoint(plan.checkpoint, image_size=plan.image_size)
    images = plan.evidence.read(record.labels)
    calibration: Sequence[npt.NDArray[np.uint8]] = ()
    if any(map(needs_calibration, plan.variants)):
        size = plan.image_size or record.image_size
        calibration = plan.evidence.read_calibration(record.labels, size)
    reference = keras_contestant(model, record.labels, plan.checkpoint)

    def prove(version_dir: Path, variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
        return prove_version(
            version_dir,
            variants,
            reference,
            images,
            thresholds=plan.evidence.thresholds,
            report=report,
        )

    metadata = describe_checkpoint(
        plan.checkpoint, record, image_size=plan.image_size, batch_sizes=plan.batch_sizes
    )
    version = publish(
        model,
        metadata,
        plan.base_path,
        model_name=plan.model_name,
        variants=plan.variants,
        calibration=calibration,
        prove=prove,
    )
    return version, metadata


def describe_checkpoint(
    checkpoint: Path,
    record: CheckpointRecord,
    *,
    image_size: tuple[int, int] | None,
    batch_sizes: Sequence[int],
) -> Metadata:
    """What an export of a checkpoint will say of itself."""
    return Metadata(
        labels=record.labels,
        image_size=image_size or record.image_size,
        architecture=record.network,
        normalization=get_network(record.network).normalization.words,
        val_mean_iou=record.val_mean_iou,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
        source=digest(checkpoint),
        aspp_rates=record.aspp_rates,
        batch_sizes=tuple(batch_sizes),
    )


def keras_contestant(model: tf.keras.Model, labels: LabelMap, checkpoint: Path) -> Contestant:
    """A checkpoint's network, as one of two to compare.

    Args:
        model: float32 RGB 0..255 (B, H, W, 3) -> float32 logits (B, H, W, num_classes).
        labels: Its classes.
        checkpoint: Where it came from: the file, or a run folder.
    """
    return Contestant(
        name=f"checkpoint {checkpoint}",
        predictor=ModelPredictor(model, labels),
        device=tensorflow_device(),
        size_bytes=checkpoint_file(checkpoint).stat().st_size,
    )
