"""Paired transforms: what changes the geometry changes image and mask by one draw.

An example is a dict of `image` float32 (H, W, 3) RGB 0..255, `mask` uint8 (H, W) and, for what is
random, `seed` int64 (2,). A transform takes an example and returns one, eagerly and inside tf.data
alike. A random transform draws from `seed` alone and leaves the next seed in its place, so the
same seed gives the same result and two transforms never share a draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from segkit.labels import IGNORE_ID

__all__ = [
    "Example",
    "PhotometricDistortion",
    "RandomFlip",
    "RandomScaleCrop",
    "Resize",
    "Transform",
]

Example = dict[str, tf.Tensor]
Transform = Callable[[Example], Example]

# Mean of ImageNet's RGB: after normalisation the padding is close to 0.
_MEAN_COLOR = (124.0, 116.0, 104.0)
# Luma and chroma of NTSC television: hue is an angle in the plane of I and Q.
_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


@dataclass(frozen=True)
class Resize:
    """Stretches image and mask to a size: image bilinear with antialiasing, mask nearest.

    Args:
        image_size: Height and width, pixels.
    """

    image_size: tuple[int, int]

    def __call__(self, example: Example) -> Example:
        """The example at `image_size`."""
        image, mask = _resize(example["image"], example["mask"], self.image_size)
        return example | {
            "image": tf.ensure_shape(image, (*self.image_size, 3)),
            "mask": tf.ensure_shape(mask, self.image_size),
        }


@dataclass(frozen=True)
class RandomScaleCrop:
    """Scales at random and cuts out, or pads to, the image size; draws `seed`.

    Scale 1 is the whole image stretched to `image_size`, as `Resize` and the served model see it.
    Above 1 a random part fills the output, below 1 the image stands at a random place in it and
    the rest is `fill` in the image and IGNORE_ID in the mask. Part and scale are taken in one
    resize from the full-size image, so enlarging loses no detail that the image has.

    Args:
        image_size: Height and width of the output, pixels.
        min_scale: Smallest scale, above 0.
        max_scale: Largest scale.
        fill: RGB of the padding, 0..255.
    """

    image_size: tuple[int, int]
    min_scale: float = 0.5
    max_scale: float = 2.0
    fill: tuple[float, float, float] = _MEAN_COLOR

    def __post_init__(self) -> None:
        if not 0 < self.min_scale <= self.max_scale:
            raise ValueError(
                f"min_scale {self.min_scale}, max_scale {self.max_scale}: expected 0 < min <= max"
            )

    def __call__(self, example: Example) -> Example:
        """The example at `image_size`."""
        draw, seed = _split(example["seed"])
        scale = tf.random.stateless_uniform([], draw, self.min_scale, self.max_scale)
        place = tf.random.stateless_uniform([2], draw + 1)  # 0..1 of the free way, vertical first
        image, mask = example["image"], example["mask"]

        full = tf.cast(tf.shape(mask), tf.float32)
        part = tf.maximum(tf.round(full / tf.maximum(scale, 1.0)), 1.0)
        top, left = tf.unstack(tf.cast(tf.round(place * (full - part)), tf.int32))
        height, width = tf.unstack(tf.cast(part, tf.int32))
        image = image[top : top + height, left : left + width]
        mask = mask[top : top + height, left : left + width]

        output = tf.constant(self.image_size, tf.float32)
        inner = tf.maximum(tf.round(output * tf.minimum(scale, 1.0)), 1.0)
        image, mask = _resize(image, mask, tf.cast(inner, tf.int32))
        before = tf.cast(tf.round(place * (output - inner)), tf.int32)
        after = tf.constant(self.image_size) - tf.cast(inner, tf.int32) - before
        padding = tf.stack([before, after], axis=1)  # (2, 2)
        fill = tf.constant(self.fill)
        image = tf.pad(image - fill, tf.concat([padding, [[0, 0]]], axis=0)) + fill
        mask = tf.pad(mask, padding, constant_values=tf.constant(IGNORE_ID, tf.uint8))
        return example | {
            "image": tf.ensure_shape(image, (*self.image_size, 3)),
            "mask": tf.ensure_shape(mask, self.image_size),
            "seed": seed,
        }


@dataclass(frozen=True)
class RandomFlip:
    """Mirrors left and right; draws `seed`.

    Args:
        probability: Share of the examples that are mirrored.
    """

    probability: float = 0.5

    def __call__(self, example: Example) -> Example:
        """The example, or its mirror image."""
        draw, seed = _split(example["seed"])
        flip = tf.random.stateless_uniform([], draw) < self.probability
        image, mask = example["image"], example["mask"]
        return example | {
            "image": tf.cond(flip, lambda: tf.reverse(image, [1]), lambda: image),
            "mask": tf.cond(flip, lambda: tf.reverse(mask, [1]), lambda: mask),
            "seed": seed,
        }


@dataclass(frozen=True)
class PhotometricDistortion:
    """Changes brightness, contrast, saturation and hue of the image, each by chance; draws `seed`.

    All four together are one affine map of RGB: one matrix product a pixel. The mask is not
    touched, the image stays within 0..255.

    Args:
        brightness: Largest change, in grey levels of 255.
        contrast: Factors lie in 1 +- this, about the image's mean.
        saturation: Factors lie in 1 +- this.
        hue: Largest turn, as a share of the full circle.
        probability: Of each of the four.
    """

    brightness: float = 32.0
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.05
    probability: float = 0.5

    def __call__(self, example: Example) -> Example:
        """The example with other colours."""
        draw, seed = _split(example["seed"])
        strength = tf.random.stateless_uniform([4], draw, -1.0, 1.0)
        used = tf.random.stateless_uniform([4], draw + 1) < self.probability
        most = tf.constant([self.brightness, self.contrast, self.saturation, self.hue])
        brightness, contrast, saturation, hue = tf.unstack(
            tf.where(used, strength * most, tf.zeros_like(most))
        )

        image = example["image"]
        matrix = (1.0 + contrast) * _color_matrix(1.0 + saturation, hue)
        mean = tf.reduce_sum(tf.reduce_mean(image, axis=[0, 1]) * _RGB_TO_YIQ[0])
        pixels = tf.reshape(image, [-1, 3]) @ tf.transpose(matrix)  # (HW, 3)
        pixels = tf.clip_by_value(pixels + brightness - contrast * mean, 0.0, 255.0)
        return example | {"image": tf.reshape(pixels, tf.shape(image)), "seed": seed}


def _resize(
    image: tf.Tensor, mask: tf.Tensor, size: tuple[int, int] | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Both by half-pixel centres, so that they stay aligned."""
    # Antialiasing changes nothing where an image grows, and takes four times as long.
    image = tf.cond(
        tf.reduce_any(tf.shape(mask) > size),
        lambda: tf.image.resize(image, size, antialias=True),
        lambda: tf.image.resize(image, size),
    )
    # Class ids are names, not amounts: between 1 and 3 there is no 2.
    mask = tf.image.resize(mask[..., None], size, method="nearest")[..., 0]
    return image, mask


def _split(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A seed to draw from, and the seed that follows."""
    own, following = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    return own, following


def _color_matrix(saturation: tf.Tensor, hue: tf.Tensor) -> tf.Tensor:
    """Scales and turns chroma, keeps luma: float32 (3, 3), for RGB columns."""
    to_yiq = tf.constant(_RGB_TO_YIQ)
    angle = hue * 6.283185307
    cosine, sine = saturation * tf.cos(angle), saturation * tf.sin(angle)
    turn = tf.stack(
        [
            tf.constant([1.0, 0.0, 0.0]),
            tf.stack([tf.zeros([]), cosine, -sine]),
            tf.stack([tf.zeros([]), sine, cosine]),
        ]
    )
    return tf.linalg.inv(to_yiq) @ turn @ to_yiq
