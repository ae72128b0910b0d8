"""Transforms that change what pixels look like, never where they are.

They follow the rules of segkit.data.transforms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import tensorflow as tf

from segkit.data.transforms import MEAN_COLOR, Example, check_ranges, split_seed
from segkit.labels import IGNORE_ID

__all__ = ["Cutout", "GaussianBlur", "JpegQuality", "PhotometricDistortion"]

# Luma and chroma of NTSC television: hue is an angle in the plane of I and Q.
_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


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

    def __post_init__(self) -> None:
        check_ranges(
            self,
            brightness=(0, 255),
            contrast=(0, 1),
            saturation=(0, 1),
            hue=(0, 0.5),
            probability=(0, 1),
        )

    def __call__(self, example: Example) -> Example:
        """The example with other colours."""
        draw, seed = split_seed(example["seed"])
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


@dataclass(frozen=True)
class GaussianBlur:
    """Takes sharpness away, as motion, fog and a bad lens do; draws `seed`.

    Args:
        max_sigma: Largest standard deviation, pixels.
        probability: Share of the examples that are blurred.
    """

    max_sigma: float = 1.5
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_ranges(self, max_sigma=(0.1, 50), probability=(0, 1))

    def __call__(self, example: Example) -> Example:
        """The example, or the example blurred."""
        draw, seed = split_seed(example["seed"])
        chance, strength = tf.unstack(tf.random.stateless_uniform([2], draw))
        image = example["image"]
        image = tf.cond(
            chance < self.probability,
            lambda: _blurred(image, strength * self.max_sigma, math.ceil(3 * self.max_sigma)),
            lambda: image,
        )
        return example | {"image": image, "seed": seed}


@dataclass(frozen=True)
class JpegQuality:
    """Packs the image as JPEG and unpacks it, as cameras and streams do; draws `seed`.

    Args:
        min_quality: Lowest quality, 0..100.
        max_quality: Highest quality, 0..100.
        probability: Share of the examples that are packed.
    """

    min_quality: int = 40
    max_quality: int = 95
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_ranges(self, min_quality=(0, 100), max_quality=(0, 100), probability=(0, 1))
        if self.min_quality > self.max_quality:
            raise ValueError(
                f"min_quality {self.min_quality}, max_quality {self.max_quality}: "
                "expected min <= max"
            )

    def __call__(self, example: Example) -> Example:
        """The example, or the example with JPEG's blocks."""
        draw, seed = split_seed(example["seed"])
        chance = tf.random.stateless_uniform([], draw)
        quality = tf.random.stateless_uniform(
            [], draw + 1, self.min_quality, self.max_quality + 1, tf.int32
        )
        image = example["image"]
        image = tf.cond(chance < self.probability, lambda: _packed(image, quality), lambda: image)
        return example | {"image": image, "seed": seed}


@dataclass(frozen=True)
class Cutout:
    """Covers rectangles of the image with one colour; draws `seed`.

    The mask stays: what is behind a hole has to be told from what is around it, which is what
    cutout is for, and what mmsegmentation and albumentations do unless told otherwise. With
    `ignore_holes` the holes are IGNORE_ID in the mask, as in French et al., "Semi-supervised
    semantic segmentation needs strong, varied perturbations", 2020.

    Args:
        holes: Number of rectangles.
        min_size: Shortest side, as a share of the image's height or width.
        max_size: Longest side, as a share of the image's height or width.
        probability: Share of the examples that are covered.
        ignore_holes: No loss where a hole is.
        fill: RGB of the holes, 0..255.

    Reference: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
    Cutout", 2017.
    """

    holes: int = 1
    min_size: float = 0.05
    max_size: float = 0.25
    probability: float = 0.5
    ignore_holes: bool = False
    fill: tuple[float, float, float] = MEAN_COLOR

    def __post_init__(self) -> None:
        check_ranges(
            self,
            holes=(1, 100),
            min_size=(0, 1),
            max_size=(0, 1),
            probability=(0, 1),
            fill=(0, 255),
        )
        if self.min_size > self.max_size:
            raise ValueError(
                f"min_size {self.min_size}, max_size {self.max_size}: expected min <= max"
            )

    def __call__(self, example: Example) -> Example:
        """The example, or the example with holes."""
        draw, seed = split_seed(example["seed"])
        chance = tf.random.stateless_uniform([], draw)
        image, mask = example["image"], example["mask"]

        def covered() -> tuple[tf.Tensor, tf.Tensor]:
            hole = self._hole(tf.shape(mask), draw + 1)
            ignored = tf.where(hole, tf.constant(IGNORE_ID, tf.uint8), mask)
            return (
                tf.where(hole[..., None], tf.constant(self.fill), image),
                ignored if self.ignore_holes else mask,
            )

        image, mask = tf.cond(chance < self.probability, covered, lambda: (image, mask))
        return example | {"image": image, "mask": mask, "seed": seed}

    def _hole(self, size: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
        """Where the rectangles are: bool (H, W)."""
        full = tf.cast(size, tf.float32)
        sides = tf.random.stateless_uniform([self.holes, 2], draw, self.min_size, self.max_size)
        sides = tf.maximum(tf.round(sides * full), 1.0)
        first = tf.round(tf.random.stateless_uniform([self.holes, 2], draw + 1) * (full - sides))
        within = [
            (position >= first[:, axis, None]) & (position < (first + sides)[:, axis, None])
            for axis in (0, 1)
            for position in [tf.range(full[axis])[None]]
        ]  # (holes, H), (holes, W)
        return tf.reduce_any(within[0][:, :, None] & within[1][:, None, :], axis=0)


def _blurred(image: tf.Tensor, sigma: tf.Tensor, radius: int) -> tf.Tensor:
    """Gaussian, rows and columns in turn; at the border what lies inside counts alone."""
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernel = tf.exp(-0.5 * tf.square(offsets / tf.maximum(sigma, 1e-3)))
    for shape in ([-1, 1, 1, 1], [1, -1, 1, 1]):
        taps = tf.tile(tf.reshape(kernel, shape), [1, 1, 3, 1])
        inside = tf.ones_like(image[:1] if shape[0] == 1 else image[:, :1])[None]
        total, weight = (
            tf.nn.depthwise_conv2d(x, taps, strides=[1, 1, 1, 1], padding="SAME")
            for x in (image[None], inside)
        )
        image = (total / weight)[0]
    return image


def _packed(image: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
    pixels = tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)
    unpacked = tf.image.adjust_jpeg_quality(pixels, quality)
    # The decoder cannot know the size, and an unknown size costs a resize at the end.
    return tf.cast(tf.ensure_shape(unpacked, image.shape), tf.float32)


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
