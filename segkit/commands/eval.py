"""Measures a checkpoint on a split: IoU and accuracy by class, mean IoU, pixel accuracy.

The scores count the label's own pixels: logits are resized to each mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the evaluation."""

    checkpoint: Path
    """a run folder (its best checkpoint), or a .h5 of its checkpoints/"""
    dataset_dir: Path | None = None
    """where `tfds build` wrote the data set; TFDS's own folder by default"""
    dataset_name: str = "full_semantic"
    """name of the data set"""
    split: Literal["train", "val"] = "val"
    """the split to measure on"""
    image_size: tuple[int, int] | None = None
    """height and width that the network sees; those of the training by default"""


def run(options: Options) -> None:
    """Evaluates and prints a table."""
    import tensorflow as tf

    from segkit.data.full_semantic import open_dataset
    from segkit.data.pipeline import original_size_batches
    from segkit.errors import CheckpointError
    from segkit.evaluation.evaluate import evaluate, make_confusion_step
    from segkit.models.checkpoints import load_checkpoint

    dataset = open_dataset(options.dataset_dir, options.dataset_name)
    model, record = load_checkpoint(options.checkpoint, image_size=options.image_size)
    if record.labels != dataset.labels:
        raise CheckpointError(
            f"the checkpoint's classes are {', '.join(record.labels.names)}",
            expected=f"those of the data set: {', '.join(dataset.labels.names)}",
        )
    batches = original_size_batches(
        dataset.examples(options.split), image_size=options.image_size or record.image_size
    )
    step = make_confusion_step(model, dataset.labels.num_classes, tf.distribute.get_strategy())
    matrix = evaluate(step, batches, dataset.labels.num_classes)

    print(f"{'class':<20} {'IoU':>7} {'accuracy':>9} {'pixels':>14}")
    rows = zip(
        dataset.labels.names,
        matrix.class_iou,
        matrix.class_accuracy,
        matrix.counts.sum(axis=1),
        strict=True,
    )
    for name, iou, accuracy, pixels in rows:
        print(f"{name:<20} {iou:>7.3f} {accuracy:>9.3f} {pixels:>14,}")
    print(
        f"mean_iou {matrix.mean_iou:.4f}  pixel_accuracy {matrix.pixel_accuracy:.4f}  on "
        f"{dataset.num_examples(options.split):,} {options.split} images, at label size; classes "
        "in neither truth nor prediction are left out of the mean"
    )
