"""tf.data batches of (image, mask): shuffled and augmented for training, as they are for val."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from segkit.data.order import shuffled_passes
from segkit.data.transforms import Example, Resize, Transform

__all__ = ["Examples", "batch_stems", "train_batches", "val_batches"]


def _as_stored(stored: Mapping[str, tf.Tensor]) -> Example:
    return dict(stored)


@dataclass(frozen=True)
class Examples:
    """The examples of a split; segkit.data.cache opens them.

    Args:
        stored: What stands for them, light enough that a pass of it fits in memory: image files,
            images that are decoded and kept, names of files. Of known number, in a fixed order.
        load: From one of `stored` to a dict of `image` uint8 (H, W, 3) and `mask` uint8 (H, W).
        blocks: `stored` in parts, where it is too much to be shuffled as a whole.
        room: Number of those that are shuffled with each other then.
        stems: Names them, in the fixed order; they go by their numbers if None.
    """

    stored: tf.data.Dataset
    load: Callable[[Any], Example] = _as_stored
    blocks: tuple[tf.data.Dataset, ...] = ()
    room: int | None = None
    stems: Callable[[], list[str]] | None = None

    def in_order(self) -> tf.data.Dataset:
        """Each once, in the fixed order."""
        return self.stored.map(self.load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def train_batches(
    examples: Examples,
    *,
    image_size: tuple[int, int],
    batch_size: int,
    augmentation: Sequence[Transform],
    seed: int,
    deterministic: bool = True,
    first_step: int = 0,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Endless, shuffled, augmented batches; the same seed gives the same batches.

    Args:
        examples: What to train on.
        image_size: Height and width of the batches, pixels.
        batch_size: Examples a batch, of all workers and their replicas together.
        augmentation: Transforms to apply in turn, see segkit.data.recipe. What
            does not end at `image_size` is resized to it.
        seed: Of order and augmentation.
        deterministic: False lets an example that is ready early overtake the one before it.
        first_step: Begins with this batch, counted from 0: a run that is resumed sees what it would
            have seen.
        share: Number of this worker, from 0, and of all workers. Each gets its part of every batch,
            and decodes and augments no other; all parts together are the batch of one alone.

    Returns:
        Pairs of image float32 (B, h, w, 3) RGB 0..255 and mask uint8 (B, h, w), 255 ignored.
    """
    finish = Resize(image_size)
    index, count = share

    def is_own(number: tf.Tensor, stored: Any) -> tf.Tensor:
        return number % batch_size * count // batch_size == index

    def augment(number: tf.Tensor, stored: Any) -> tuple[tf.Tensor, tf.Tensor]:
        drawn = _floating(examples.load(stored))
        drawn["seed"] = tf.stack([tf.cast(seed, tf.int64), number])
        for transform in augmentation:
            drawn = transform(drawn)
        return _pair(finish(drawn))

    options = tf.data.Options()
    options.deterministic = deterministic
    return (
        shuffled_passes(
            examples.blocks or (examples.stored,),
            seed=seed,
            room=examples.room,
            start=first_step * batch_size,
        )
        .filter(is_own)
        .map(augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)
        .batch(batch_size // count, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )


def batch_stems(examples: Examples, *, batch_size: int, seed: int, step: int) -> list[str]:
    """Names the examples in one of `train_batches`, which has the same arguments.

    Args:
        examples: What is trained on.
        batch_size: Examples a batch.
        seed: Of the order.
        step: Number of the batch, from 0.
    """
    total = int(examples.stored.cardinality())
    stems = examples.stems() if examples.stems else [f"number {i}" for i in range(total)]
    ends = itertools.accumulate(
        int(block.cardinality()) for block in examples.blocks or (examples.stored,)
    )
    bounds = itertools.pairwise([0, *ends])
    positions = shuffled_passes(
        [tf.data.Dataset.range(first, end) for first, end in bounds],
        seed=seed,
        room=examples.room,
        start=step * batch_size,
    )
    return [stems[position] for _, position in positions.take(batch_size).as_numpy_iterator()]


def val_batches(
    examples: tf.data.Dataset, *, image_size: tuple[int, int], batch_size: int
) -> tf.data.Dataset:
    """Every example once, in order, stretched to the image size; the last batch may be smaller.

    Args:
        examples: Dicts of `image` uint8 (H, W, 3) and `mask` uint8 (H, W).
        image_size: Height and width of the batches, pixels.
        batch_size: Examples a batch.

    Returns:
        Pairs of image float32 (B, h, w, 3) RGB 0..255 and mask uint8 (B, h, w), 255 ignored.
    """
    resize = Resize(image_size)
    return (
        examples.map(
            lambda example: _pair(resize(_floating(example))),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def _floating(example: Example) -> Example:
    return {"image": tf.cast(example["image"], tf.float32), "mask": example["mask"]}


def _pair(example: Example) -> tuple[tf.Tensor, tf.Tensor]:
    return example["image"], example["mask"]
