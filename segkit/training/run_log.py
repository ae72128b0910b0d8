"""What a training leaves in its run folder beside checkpoints: results, TensorBoard, pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from segkit.evaluation.metrics import ConfusionMatrix
from segkit.evaluation.mosaic import batch_mosaic, prediction_mosaic, write_png
from segkit.evaluation.plots import write_confusion_matrix, write_curves
from segkit.labels import LabelMap
from segkit.runs import Run

__all__ = ["EpochResult", "RunLog"]

Array = npt.NDArray[Any]

# Pictures of short epochs are not drawn after each of them.
_REDRAWN_S = 30.0
# As many images as the mosaic of predictions shows.
_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What came out of an epoch.

    Args:
        epoch: Epochs done.
        step: Optimizer steps done.
        loss: Mean over the epoch's steps.
        learning_rate: Of the last of them.
        images_per_second: Of the training alone.
        waited: Share of its time spent waiting for data, 0..1.
        matrix: Of the val split afterwards.
    """

    epoch: int
    step: int
    loss: float
    learning_rate: float
    images_per_second: float
    waited: float
    matrix: ConfusionMatrix


class RunLog:
    """Writes results.csv, curves.png, confusion_matrix.png, train_batch0.png and val_pred0.png.

    All of it goes to TensorBoard too.

    Args:
        run: The run folder.
        labels: The classes.
        step: Steps done: lines after it are of a process that died, and will be written again.
    """

    def __init__(self, run: Run, labels: LabelMap, *, step: int = 0) -> None:
        self._run = run
        self._labels = labels
        self._rows: list[dict[str, Any]] = [
            dict(row) for row in run.read_results() if int(row["step"]) <= step
        ]
        self._writer = tf.summary.create_file_writer(str(run.tensorboard))
        self._drawn = time.monotonic()
        self._best: tuple[EpochResult, Array, Array, Array] | None = None

    def first_batch(self, images: Array, masks: Array, stems: Sequence[str]) -> None:
        """Draws the first train batch, as the network sees it.

        Args:
            images: float32, (B, h, w, 3), RGB, 0..255.
            masks: uint8, (B, h, w), class ids.
            stems: Names of the images.
        """
        self._picture("train_batch0", batch_mosaic(images, masks, self._labels, captions=stems), 0)

    def epoch(self, result: EpochResult) -> None:
        """Adds an epoch."""
        scalars = {
            "loss": result.loss,
            "learning_rate": result.learning_rate,
            "images_per_second": result.images_per_second,
            "val_mean_iou": result.matrix.mean_iou,
            "val_pixel_accuracy": result.matrix.pixel_accuracy,
        }
        class_iou = zip(self._labels.names, result.matrix.class_iou, strict=True)
        self._rows.append(
            {"epoch": result.epoch, "step": result.step}
            | scalars
            | {f"val_iou_{name}": iou for name, iou in class_iou}
        )
        self._run.write_results(self._rows)
        with self._writer.as_default(step=result.epoch):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)
        if time.monotonic() - self._drawn > _REDRAWN_S:
            self._draw()

    def best(self, result: EpochResult, model: tf.keras.Model, val_batch: Sequence[Array]) -> None:
        """Keeps what the best epoch so far makes of some val images.

        Args:
            result: Of that epoch.
            model: With its weights.
            val_batch: Images and masks, as `Batches.val` gives them.
        """
        images, masks = (values[:_SHOWN] for values in val_batch)
        outputs = tf.nest.flatten(model(images, training=False))
        predictions = np.argmax(outputs[0], axis=-1).astype(np.uint8)
        self._best = (result, images, masks, predictions)

    def close(self) -> None:
        """Draws what is not yet drawn, and ends the TensorBoard file."""
        self._draw()
        self._writer.close()

    def _draw(self) -> None:
        if self._rows:
            write_curves(self._run.path / "curves.png", self._rows)
        if self._best is not None:
            result, images, masks, predictions = self._best
            path = self._run.path / "confusion_matrix.png"
            write_confusion_matrix(path, result.matrix, self._labels)
            mosaic = prediction_mosaic(images, masks, predictions, self._labels)
            self._picture("val_pred0", mosaic, result.epoch)
            self._best = None
        self._drawn = time.monotonic()

    def _picture(self, name: str, picture: Array, epoch: int) -> None:
        write_png(self._run.path / f"{name}.png", picture)
        with self._writer.as_default(step=epoch):
            tf.summary.image(name, picture[None])
