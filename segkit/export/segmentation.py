"""The network as engines other than TensorFlow take it: uint8 image in, class ids out."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from segkit import contract

__all__ = ["class_ids", "confidence", "segmentation_function"]


def class_ids(logits: tf.Tensor) -> tf.Tensor:
    """uint8 (B, H, W): the class of the largest logit, the lowest id where several are largest."""
    return tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32), tf.uint8)


def confidence(logits: tf.Tensor) -> tf.Tensor:
    """uint8 (B, H, W): the probability of that class, times 255."""
    probability = tf.reduce_max(tf.nn.softmax(logits), axis=-1)
    return tf.cast(tf.round(probability * 255.0), tf.uint8)


def segmentation_function(model: tf.keras.Model) -> Any:
    """A concrete function of the contract's `image` with the outputs `class_ids` and `confidence`.

    Args:
        model: float32 RGB 0..255 (B, H, W, 3) -> float32 logits (B, H, W, num_classes).
    """

    @tf.function(autograph=False)
    def segment(image: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(tf.cast(image, tf.float32), training=False)
        return {contract.CLASS_IDS: class_ids(logits), contract.CONFIDENCE: confidence(logits)}

    spec = tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8, name=contract.IMAGE)
    return segment.get_concrete_function(spec)
