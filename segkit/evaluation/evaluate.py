"""evaluate(): one pass of a model over a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from segkit.evaluation.metrics import ConfusionMatrix
from segkit.labels import IGNORE_ID

__all__ = ["confusion", "evaluate", "make_confusion_step"]


def evaluate(step: Callable[[Any], tf.Tensor], batches: Any, num_classes: int) -> ConfusionMatrix:
    """Sums the confusion matrix over all batches.

    Args:
        step: What `make_confusion_step` made. Made once and kept: it is a traced graph.
        batches: Batches of (image, mask), plain or distributed by the step's strategy.
        num_classes: Number of classes.
    """
    matrix = ConfusionMatrix(num_classes)
    for batch in batches:
        matrix.add(step(batch).numpy())
    return matrix


def make_confusion_step(
    model: tf.keras.Model, num_classes: int, strategy: tf.distribute.Strategy
) -> Callable[[Any], tf.Tensor]:
    """A graph that takes a batch and gives its confusion matrix, summed over the replicas.

    The logits are resized to the mask, so that the score is one of the mask's own pixels.

    Args:
        model: Its first or only output are logits.
        num_classes: Number of classes.
        strategy: Runs the step on its replicas.

    Returns:
        (image (B, h, w, 3), mask (B, H, W)) -> int64 (num_classes, num_classes).
    """

    def on_replica(image: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        # A last batch that is smaller than the replicas are many leaves some without an image, and
        # a convolution of none has another shape in bfloat16 on a CPU.
        return tf.cond(
            tf.shape(image)[0] > 0,
            lambda: of_images(image, mask),
            lambda: tf.zeros((num_classes, num_classes), tf.int64),
        )

    def of_images(image: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        outputs = model(image, training=False)
        logits = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
        logits = tf.image.resize(logits, tf.shape(mask)[1:3], method="bilinear")
        return confusion(mask, tf.argmax(logits, axis=-1), num_classes)

    @tf.function(reduce_retracing=True)
    def step(batch: Any) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(on_replica, args=batch), axis=None)

    return step


def confusion(truth: tf.Tensor, prediction: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Confusion matrix of class ids of one shape: int64, (true class, predicted class)."""
    valid = tf.not_equal(tf.cast(truth, tf.int32), IGNORE_ID)
    pairs = tf.cast(truth, tf.int32) * num_classes + tf.cast(prediction, tf.int32)
    counts = tf.math.bincount(
        tf.boolean_mask(pairs, valid), minlength=num_classes**2, dtype=tf.int64
    )
    return tf.reshape(counts, [num_classes, num_classes])
