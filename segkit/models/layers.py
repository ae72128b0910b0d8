"""Layers and layer recipes that several networks share."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = [
    "IMAGENET_NORMALIZATION",
    "Resize",
    "ResizeLike",
    "batch_normalization",
    "convolution",
    "imagenet_normalization",
]

# torchvision's mean and standard deviation of ImageNet, of RGB 0..1.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET_NORMALIZATION = "RGB / 255, minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)"


def imagenet_normalization(*, name: str) -> tf.keras.layers.Layer:
    """RGB 0..255 -> zero mean and unit variance on ImageNet; it has no weights."""
    return tf.keras.layers.Normalization(
        mean=[255.0 * mean for mean in _IMAGENET_MEAN],
        variance=[(255.0 * std) ** 2 for std in _IMAGENET_STD],
        name=name,
    )


def convolution(
    x: tf.Tensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    strides: int = 1,
    use_bias: bool = False,
    dtype: str | None = None,
) -> tf.Tensor:
    """A convolution padded as PyTorch pads it: `kernel_size // 2` zeros on every side.

    TensorFlow's "same" pads a strided convolution by (0, 1) on even sizes, so weights trained with
    symmetric padding would see an image shifted by half a pixel at every stride.
    """
    padding = "same"
    if strides > 1 and kernel_size > 1:
        x = tf.keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}.pad")(x)
        padding = "valid"
    return tf.keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        use_bias=use_bias,
        # He et al. 2015, fan-out, as PyTorch's kaiming_normal_ draws it.
        kernel_initializer=tf.keras.initializers.VarianceScaling(
            2.0, mode="fan_out", distribution="untruncated_normal"
        ),
        dtype=dtype,
        name=name,
    )(x)


def batch_normalization(x: tf.Tensor, *, name: str) -> tf.Tensor:
    """Batch normalisation with PyTorch's defaults (its momentum 0.1 is Keras's 0.9)."""
    return tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


@tf.keras.utils.register_keras_serializable("segkit")
class Resize(tf.keras.layers.Layer):
    """Bilinear resize with half-pixel centres (PyTorch's align_corners=False).

    Args:
        size: Height and width of the output.
    """

    def __init__(self, size: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = (size[0], size[1])

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """(B, h, w, C) -> (B, *size, C)."""
        return _resize(x, self.size, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for `from_config`."""
        return {**super().get_config(), "size": list(self.size)}


@tf.keras.utils.register_keras_serializable("segkit")
class ResizeLike(tf.keras.layers.Layer):
    """Bilinear resize of the first input to the height and width of the second."""

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """[(B, h, w, C), (B, H, W, D)] -> (B, H, W, C)."""
        x, reference = inputs
        static = reference.shape[1:3]
        size = static if static.is_fully_defined() else tf.shape(reference)[1:3]
        return _resize(x, size, self.compute_dtype)


def _resize(x: tf.Tensor, size: Any, dtype: str) -> tf.Tensor:
    # tf.image.resize answers in float32 whatever it is given.
    return tf.cast(tf.image.resize(x, size, method="bilinear"), dtype)
