"""Transforms that choose which part of an image is seen, and how large.

They follow the rules of segkit.data.transforms.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import tensorflow as tf

from segkit.data.transforms import MEAN_COLOR, Example, check_ranges, resize, split_seed
from segkit.labels import IGNORE_ID

__all__ = ["ClassBalancedCrop", "RandomScaleCrop"]

# So many rows and columns of a crop are enough to tell what share of it a class has.
_COUNTED = 64


@dataclass(frozen=True)
class _ScaleCrop(ABC):
    """What the crops share; they differ in where the part lies."""

    image_size: tuple[int, int]
    crop_size: tuple[int, int]
    min_scale: float = 0.5
    max_scale: float = 2.0
    fill: tuple[float, float, float] = MEAN_COLOR

    def __post_init__(self) -> None:
        check_ranges(self, image_size=(1, math.inf), crop_size=(1, math.inf), fill=(0, 255))
        if not 0 < self.min_scale <= self.max_scale:
            raise ValueError(
                f"min_scale {self.min_scale}, max_scale {self.max_scale}: expected 0 < min <= max"
            )

    def __call__(self, example: Example) -> Example:
        """The example at `crop_size`."""
        draw, seed = split_seed(example["seed"])
        scale = tf.random.stateless_uniform([], draw, self.min_scale, self.max_scale)
        place = tf.random.stateless_uniform([2], draw + 1)  # 0..1 of the free way, vertical first
        image, mask = example["image"], example["mask"]

        full = tf.cast(tf.shape(mask), tf.float32)
        output = tf.constant(self.crop_size, tf.float32)
        # Of the scaled image, how many crops lie side by side: below 1 there is room for padding.
        crops = scale * tf.constant(self.image_size, tf.float32) / output
        part = tf.cast(tf.maximum(tf.round(full / tf.maximum(crops, 1.0)), 1.0), tf.int32)
        corner = self._corner(mask, part, place, draw + 2)
        image, mask = _cut(image, corner, part), _cut(mask, corner, part)

        inner = tf.maximum(tf.round(output * tf.minimum(crops, 1.0)), 1.0)
        image, mask = resize(image, mask, tf.cast(inner, tf.int32))
        before = tf.cast(tf.round(place * (output - inner)), tf.int32)
        image, mask = tf.cond(
            tf.reduce_all(inner == output),
            lambda: (image, mask),
            lambda: self._padded(image, mask, before),
        )
        return example | {
            "image": tf.ensure_shape(image, (*self.crop_size, 3)),
            "mask": tf.ensure_shape(mask, self.crop_size),
            "seed": seed,
        }

    def _padded(
        self, image: tf.Tensor, mask: tf.Tensor, before: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Both at `crop_size`, with so many rows and columns before them."""
        after = tf.constant(self.crop_size) - tf.shape(mask) - before
        padding = tf.stack([before, after], axis=1)  # (2, 2)
        fill = tf.constant(self.fill)
        image = tf.pad(image - fill, tf.concat([padding, [[0, 0]]], axis=0)) + fill
        mask = tf.pad(mask, padding, constant_values=tf.constant(IGNORE_ID, tf.uint8))
        return image, mask

    @abstractmethod
    def _corner(
        self, mask: tf.Tensor, part: tf.Tensor, place: tf.Tensor, draw: tf.Tensor
    ) -> tf.Tensor:
        """Where the part begins.

        Args:
            mask: uint8, (H, W).
            part: Height and width of the part, int32 (2,).
            place: A random place: 0..1 of the free way, float32 (2,).
            draw: Seed of whatever else is drawn.

        Returns:
            Top and left, int32 (2,).
        """


@dataclass(frozen=True)
class RandomScaleCrop(_ScaleCrop):
    """Scales at random and cuts out, or pads to, the crop size; draws `seed`.

    Scale 1 is the whole image stretched to `image_size`, as `Resize` and the served model see it.
    Where the scaled image is larger than the crop, a random part of it fills the output; where it
    is smaller, it stands at a random place in there and the rest is `fill` in the image and
    IGNORE_ID in the mask. Part and scale are taken in one resize from the full-size image, so
    enlarging loses no detail that the image has.

    Args:
        image_size: Height and width of the image at scale 1, pixels.
        crop_size: Height and width of the output, pixels.
        min_scale: Smallest scale, above 0.
        max_scale: Largest scale.
        fill: RGB of the padding, 0..255.
        max_class_share: Largest share that one class may have of the labelled pixels of a part,
            0..1; another place is tried where one has more. 1 takes any place, 0.75 is usual.
        tries: Places to try before the last one is taken as it is.
    """

    max_class_share: float = 1.0
    tries: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, max_class_share=(0, 1), tries=(1, 1000))

    def _corner(
        self, mask: tf.Tensor, part: tf.Tensor, place: tf.Tensor, draw: tf.Tensor
    ) -> tf.Tensor:
        if self.max_class_share == 1 or self.tries == 1:
            return _corner_at(mask, part, place)
        further = tf.random.stateless_uniform([self.tries - 1, 2], draw)
        corners = _corner_at(mask, part, tf.concat([place[None], further], axis=0))  # (tries, 2)

        def next_try(number: tf.Tensor) -> tf.Tensor:
            share = _largest_share(_cut(mask, corners[number], part))
            return (number < self.tries - 1) & (share > self.max_class_share)

        # Where the part is the whole image, all places are the same.
        last = tf.where(tf.reduce_all(part == tf.shape(mask)), self.tries - 1, 0)
        (chosen,) = tf.while_loop(next_try, lambda number: (number + 1,), (last,))
        return corners[chosen]


@dataclass(frozen=True)
class ClassBalancedCrop(_ScaleCrop):
    """Cuts around a pixel of a class that is drawn without regard to its size; draws `seed`.

    Scale and padding are those of `RandomScaleCrop`. Every class that an image has is drawn
    equally often, however few of its pixels it has; with `class_shares` a class is drawn the more
    often, the rarer it is in the set. Then one of its pixels is drawn and the part lies around it,
    moved as little as it takes to stay in the image.

    Args:
        image_size: Height and width of the image at scale 1, pixels.
        crop_size: Height and width of the output, pixels.
        min_scale: Smallest scale, above 0.
        max_scale: Largest scale.
        fill: RGB of the padding, 0..255.
        probability: Share of the crops that are balanced; the others lie anywhere. A third is
            nnU-Net's.
        class_shares: Share of each class id in the pixels of the set, in any unit; a class with 0
            or beyond the end is never drawn. All alike, by default.

    Reference: Isensee et al., "nnU-Net", Nature Methods 2021, on oversampling the foreground.
    """

    probability: float = 0.33
    class_shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, probability=(0, 1), class_shares=(0, math.inf))
        if len(self.class_shares) > IGNORE_ID:
            raise ValueError(f"class_shares has {len(self.class_shares)} values: expected 0 to 255")

    def _corner(
        self, mask: tf.Tensor, part: tf.Tensor, place: tf.Tensor, draw: tf.Tensor
    ) -> tf.Tensor:
        balanced = tf.random.stateless_uniform([], draw) < self.probability
        # Where the part is the whole image, there is nothing to choose.
        balanced &= tf.reduce_any(part < tf.shape(mask))
        anywhere = _corner_at(mask, part, place)
        return tf.cond(
            balanced, lambda: self._around_pixel(mask, part, anywhere, draw + 1), lambda: anywhere
        )

    def _around_pixel(
        self, mask: tf.Tensor, part: tf.Tensor, otherwise: tf.Tensor, draw: tf.Tensor
    ) -> tf.Tensor:
        flat = tf.reshape(mask, [-1])  # (HW,)
        odds = tf.cast(_counts(flat) > 0, tf.float32) * self._weights()

        def around() -> tf.Tensor:
            drawn = tf.random.stateless_categorical(tf.math.log(odds)[None], 1, draw, tf.int32)
            pixels = tf.where(flat == tf.cast(drawn[0, 0], tf.uint8))[:, 0]
            number = tf.random.stateless_uniform([], draw + 1, 0, tf.size(pixels), tf.int32)
            pixel = tf.cast(tf.unravel_index(pixels[number], tf.shape(mask, tf.int64)), tf.int32)
            return tf.clip_by_value(pixel - part // 2, 0, tf.shape(mask) - part)

        # An image without labels, or without any class that has a share, has none to draw.
        return tf.cond(tf.reduce_any(odds > 0), around, lambda: otherwise)

    def _weights(self) -> tf.Tensor:
        """How often a class is drawn, against the others: float32 (255,)."""
        if not self.class_shares:
            return tf.ones([IGNORE_ID])
        weights = [1 / share if share > 0 else 0.0 for share in self.class_shares]
        return tf.constant(weights + [0.0] * (IGNORE_ID - len(weights)))


def _corner_at(mask: tf.Tensor, part: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Top and left of a part at a place: int32 (..., 2)."""
    free = tf.cast(tf.shape(mask) - part, tf.float32)
    return tf.cast(tf.round(place * free), tf.int32)


def _cut(values: tf.Tensor, corner: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    top, left = tf.unstack(corner)
    height, width = tf.unstack(part)
    return values[top : top + height, left : left + width]


def _largest_share(mask: tf.Tensor) -> tf.Tensor:
    """The share of the most frequent class in the labelled pixels; 1 where there are none."""
    step = tf.maximum(tf.reduce_min(tf.shape(mask)) // _COUNTED, 1)
    counts = tf.cast(_counts(tf.reshape(mask[::step, ::step], [-1])), tf.float32)
    total = tf.reduce_sum(counts)
    return tf.where(total > 0, tf.reduce_max(counts) / tf.maximum(total, 1.0), 1.0)


def _counts(flat_mask: tf.Tensor) -> tf.Tensor:
    """Pixels of each class id: int32 (255,); the ignored ones are left out."""
    # `maxlength` leaves larger values out, and IGNORE_ID is the largest.
    return tf.math.bincount(tf.cast(flat_mask, tf.int32), minlength=IGNORE_ID, maxlength=IGNORE_ID)
