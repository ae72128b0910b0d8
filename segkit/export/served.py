"""The served module: a network inside the four signatures of segkit.contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from segkit import contract
from segkit.contract import Metadata

__all__ = ["ServedFunction", "ServedModel"]


class ServedFunction(tf.Module):
    """The contract's signatures round a function that takes RGB 0..255 and gives logits.

    Args:
        logits: float32 (B, H, W, 3) -> float32 logits (B, H, W, num_classes).
        metadata: What `describe` answers; its image_size is the H and W of `image`.
        weights: What `logits` computes with, to be saved along: variables, or another SavedModel.
    """

    def __init__(
        self,
        logits: Callable[[tf.Tensor], tf.Tensor],
        metadata: Metadata,
        *,
        weights: Sequence[Any],
    ) -> None:
        super().__init__(name="segkit")
        self.weights = weights
        self._logits = tf.function(logits, autograph=False)
        self._image_size = metadata.image_size
        self._metadata = metadata.to_json()

    def signatures(self) -> dict[str, Any]:
        """Signature name -> concrete function, as tf.saved_model.save wants them."""
        height, width = self._image_size
        image = tf.TensorSpec([None, height, width, 3], tf.uint8, name=contract.IMAGE)
        encoded = tf.TensorSpec([None], tf.string, name=contract.ENCODED_IMAGE)
        query = tf.TensorSpec([None], tf.string, name=contract.QUERY)
        return {
            contract.DEFAULT_SIGNATURE: self._segment.get_concrete_function(image),
            "confidence": self._segment_with_confidence.get_concrete_function(image),
            "encoded": self._segment_encoded.get_concrete_function(encoded),
            "describe": self._describe.get_concrete_function(query),
        }

    @tf.function
    def _segment(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {contract.CLASS_IDS: _class_ids(self._checked_logits(image))}

    @tf.function
    def _segment_with_confidence(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self._checked_logits(image)
        probability = tf.reduce_max(tf.nn.softmax(logits), axis=-1)
        return {
            contract.CLASS_IDS: _class_ids(logits),
            contract.CONFIDENCE: tf.cast(tf.round(probability * 255.0), tf.uint8),
        }

    @tf.function
    def _segment_encoded(self, encoded_image: tf.Tensor) -> dict[str, tf.Tensor]:
        encoded_image = tf.ensure_shape(encoded_image, [None])
        height, width = self._image_size
        # map_fn over strings fails on a GPU device (tensorflow#28007).
        with tf.device("/cpu:0"):
            image, size = tf.map_fn(
                self._decode,
                encoded_image,
                fn_output_signature=(
                    tf.TensorSpec([height, width, 3], tf.uint8),
                    tf.TensorSpec([2], tf.int32),
                ),
            )
        class_ids = _class_ids(self._checked_logits(image))
        with tf.device("/cpu:0"):
            encoded_mask = tf.map_fn(
                _encode, (class_ids, size), fn_output_signature=tf.TensorSpec([], tf.string)
            )
        return {contract.ENCODED_MASK: encoded_mask}

    @tf.function
    def _describe(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        query = tf.ensure_shape(query, [None])
        return {contract.METADATA: tf.fill(tf.shape(query), self._metadata)}

    def _checked_logits(self, image: tf.Tensor) -> tf.Tensor:
        # First in the graph: an image of the wrong rank kills a stock tensorflow/serving process.
        image = tf.ensure_shape(image, [None, *self._image_size, 3])
        return self._logits(tf.cast(image, tf.float32))

    def _decode(self, encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Takes PNG as well. The fast DCT, which decode_image takes, costs 0.002 mean_iou on CamVid.
        image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
        resized = tf.image.resize(image, self._image_size, method="bilinear", antialias=True)
        resized = tf.saturate_cast(tf.round(resized), tf.uint8)
        return resized, tf.shape(image)[:2]


class ServedModel(ServedFunction):
    """The contract's signatures round a Keras model.

    Args:
        model: float32 (B, H, W, 3) -> float32 logits (B, H, W, num_classes).
        metadata: As of `ServedFunction`.
    """

    def __init__(self, model: tf.keras.Model, metadata: Metadata) -> None:
        # The variables are saved, the model itself is not: Keras would trace every layer of it on
        # its own, which takes minutes for a deep one.
        super().__init__(
            lambda image: model(image, training=False), metadata, weights=model.weights
        )


def _class_ids(logits: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.argmax(logits, axis=-1), tf.uint8)


def _encode(mask_and_size: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    mask, size = mask_and_size
    return tf.io.encode_png(tf.image.resize(mask[..., tf.newaxis], size, method="nearest"))
