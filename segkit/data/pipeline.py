"""tf.data batches of (image, mask): shuffled and augmented for training, as they are for val."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from segkit.data.transforms import Example, Resize, Transform

__all__ = ["original_size_batches", "train_batches", "val_batches"]

# What the shuffle buffer may hold, decoded. A set that fits is decoded once and kept.
SHUFFLE_BYTES = 1 << 30


def train_batches(
    examples: tf.data.Dataset,
    *,
    image_size: tuple[int, int],
    batch_size: int,
    augmentation: Sequence[Transform],
    seed: int,
) -> tf.data.Dataset:
    """Endless, shuffled, augmented batches; the same seed gives the same batches.

    Args:
        examples: Dicts of `image` uint8 (H, W, 3) and `mask` uint8 (H, W), in a fixed order.
        image_size: Height and width of the batches, pixels.
        batch_size: Examples a batch, of all replicas together.
        augmentation: Transforms to apply in turn, see segkit.data.recipe. What
            does not end at `image_size` is resized to it.
        seed: Of order and augmentation.

    Returns:
        Pairs of image float32 (B, h, w, 3) RGB 0..255 and mask uint8 (B, h, w), 255 ignored.
    """
    finish = Resize(image_size)

    def augment(index: tf.Tensor, example: Example) -> tuple[tf.Tensor, tf.Tensor]:
        drawn = _floating(example) | {"seed": tf.stack([tf.cast(seed, tf.int64), index])}
        for transform in augmentation:
            drawn = transform(drawn)
        return _pair(finish(drawn))

    return (
        _shuffled(examples, seed)
        .enumerate()
        .map(augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


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


def original_size_batches(
    examples: tf.data.Dataset, *, image_size: tuple[int, int]
) -> tf.data.Dataset:
    """Every example once, as a batch of one: the image resized, the mask at its own size.

    Args:
        examples: Dicts of `image` uint8 (H, W, 3) and `mask` uint8 (H, W).
        image_size: Height and width of the images, pixels.

    Returns:
        Pairs of image float32 (1, h, w, 3) RGB 0..255 and mask uint8 (1, H, W), 255 ignored.
    """
    resize = Resize(image_size)
    return (
        examples.map(
            lambda example: (resize(_floating(example))["image"], example["mask"]),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        .batch(1)
        .prefetch(tf.data.AUTOTUNE)
    )


def _shuffled(examples: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    """The examples again and again, each time in another order, within SHUFFLE_BYTES."""
    examples = examples.map(
        lambda example: {"image": example["image"], "mask": example["mask"]},
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    count = int(examples.cardinality())
    if count == 0:
        raise ValueError("there are no examples to train on")
    first = next(iter(examples.take(1)))
    size = sum(int(tf.size(value)) for value in first.values())
    room = max(1, SHUFFLE_BYTES // size)
    if 0 < count <= room:
        # The buffer would hold them all anyway: keep them, and decode each once, not every epoch.
        return examples.cache().shuffle(count, seed=seed).repeat()
    return examples.shuffle(room, seed=seed).repeat()


def _floating(example: Example) -> Example:
    return {"image": tf.cast(example["image"], tf.float32), "mask": example["mask"]}


def _pair(example: Example) -> tuple[tf.Tensor, tf.Tensor]:
    return example["image"], example["mask"]
