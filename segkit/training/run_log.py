"""What a training leaves in its run folder beside checkpoints: results.csv and TensorBoard logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from segkit.evaluation.metrics import ConfusionMatrix
from segkit.labels import LabelMap
from segkit.runs import Run

__all__ = ["EpochResult", "RunLog"]


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
    """Writes a line for each epoch.

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

    def close(self) -> None:
        """Ends the TensorBoard file."""
        self._writer.close()
