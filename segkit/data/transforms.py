"""Paired transforms: what changes the geometry changes image and mask by one draw.

An example is a dict of `image` float32 (H, W, 3) RGB 0..255, `mask` uint8 (H, W) and, for what is
random, `seed` int64 (2,). A transform takes an example and returns one, eagerly and inside tf.data
alike. A random transform draws from `seed` alone and leaves the next seed in its place, so the
same seed gives the same result and two transforms never share a draw.

Crops are in segkit.data.crops, what changes colours alone in segkit.data.photometric, and the list
in a configuration becomes transforms in segkit.data.recipe.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import tensorflow as tf

from segkit.labels import IGNORE_ID

__all__ = [
    "MEAN_COLOR",
    "Example",
    "RandomFlip",
    "RandomRotation",
    "Resize",
    "Transform",
    "check_ranges",
    "resize",
    "split_seed",
]

Example = dict[str, tf.Tensor]
Transform = Callable[[Example], Example]

# Mean of ImageNet's RGB: after normalisation the padding is close to 0.
MEAN_COLOR = (124.0, 116.0, 104.0)


@dataclass(frozen=True)
class Resize:
    """Stretches image and mask to a size: image bilinear with antialiasing, mask nearest.

    Args:
        image_size: Height and width, pixels.
    """

    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        check_ranges(self, image_size=(1, math.inf))

    def __call__(self, example: Example) -> Example:
        """The example at `image_size`."""
        image, mask = resize(example["image"], example["mask"], self.image_size)
        return example | {
            "image": tf.ensure_shape(image, (*self.image_size, 3)),
            "mask": tf.ensure_shape(mask, self.image_size),
        }


@dataclass(frozen=True)
class RandomFlip:
    """Mirrors left and right; draws `seed`.

    Args:
        probability: Share of the examples that are mirrored.
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_ranges(self, probability=(0, 1))

    def __call__(self, example: Example) -> Example:
        """The example, or its mirror image."""
        draw, seed = split_seed(example["seed"])
        flip = tf.random.stateless_uniform([], draw) < self.probability
        image, mask = example["image"], example["mask"]
        return example | {
            "image": tf.cond(flip, lambda: tf.reverse(image, [1]), lambda: image),
            "mask": tf.cond(flip, lambda: tf.reverse(mask, [1]), lambda: mask),
            "seed": seed,
        }


@dataclass(frozen=True)
class RandomRotation:
    """Turns about the center, the size stays; draws `seed`.

    The image is bilinear, the mask nearest. What comes in from outside is `fill` in the image and
    IGNORE_ID in the mask.

    Args:
        max_degrees: Largest angle, to either side.
        probability: Share of the examples that are turned.
        fill: RGB of what comes in from outside, 0..255.
    """

    max_degrees: float = 10.0
    probability: float = 0.5
    fill: tuple[float, float, float] = MEAN_COLOR

    def __post_init__(self) -> None:
        check_ranges(self, max_degrees=(0, 180), probability=(0, 1), fill=(0, 255))

    def __call__(self, example: Example) -> Example:
        """The example, or the example turned."""
        draw, seed = split_seed(example["seed"])
        chance, turn = tf.unstack(tf.random.stateless_uniform([2], draw))
        angle = (2.0 * turn - 1.0) * math.radians(self.max_degrees)
        image, mask = example["image"], example["mask"]
        image, mask = tf.cond(
            chance < self.probability,
            lambda: self._turned(image, mask, angle),
            lambda: (image, mask),
        )
        return example | {"image": image, "mask": mask, "seed": seed}

    def _turned(
        self, image: tf.Tensor, mask: tf.Tensor, angle: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        size = tf.shape(mask)
        middle_y, middle_x = tf.unstack(tf.cast(size - 1, tf.float32) / 2.0)
        cosine, sine = tf.cos(angle), tf.sin(angle)
        # From where in the input the output's pixel (x, y) comes: row by row, x first.
        matrix = [
            *(cosine, -sine, middle_x - cosine * middle_x + sine * middle_y),
            *(sine, cosine, middle_y - sine * middle_x - cosine * middle_y),
            *(tf.zeros([]), tf.zeros([])),
        ]
        warp = partial(
            tf.raw_ops.ImageProjectiveTransformV3,
            transforms=tf.stack(matrix)[None],
            output_shape=size,
            fill_mode="CONSTANT",
        )
        fill = tf.constant(self.fill)
        image = warp(images=(image - fill)[None], interpolation="BILINEAR", fill_value=0.0)[0]
        mask = warp(
            images=mask[None, ..., None], interpolation="NEAREST", fill_value=float(IGNORE_ID)
        )
        return image + fill, mask[0, ..., 0]


def check_ranges(transform: Any, **ranges: tuple[float, float]) -> None:
    """Checks parameters of a transform, each by its name; of a tuple, every element.

    Raises:
        ValueError: One lies outside its lowest and highest value; the message names it.
    """
    for name, (low, high) in ranges.items():
        value = getattr(transform, name)
        for element in value if isinstance(value, tuple) else (value,):
            if not low <= element <= high:
                allowed = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
                raise ValueError(f"{name} is {value}: expected {allowed}")


def split_seed(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A seed to draw from, and the seed that follows: int64 (2,) both."""
    own, following = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    return own, following


def resize(
    image: tf.Tensor, mask: tf.Tensor, size: tuple[int, int] | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Both at another size, by half-pixel centers, so that they stay aligned.

    Args:
        image: float32, (H, W, 3).
        mask: uint8, (H, W).
        size: Height and width.

    Returns:
        Image bilinear, with antialiasing where it shrinks, and mask nearest.
    """
    # Antialiasing changes nothing where an image grows, and takes four times as long.
    image = tf.cond(
        tf.reduce_any(tf.shape(mask) > size),
        lambda: tf.image.resize(image, size, antialias=True),
        lambda: tf.image.resize(image, size),
    )
    # Class ids are names, not amounts: between 1 and 3 there is no 2.
    mask = tf.image.resize(mask[..., None], size, method="nearest")[..., 0]
    return image, mask
