from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from segkit.data.pipeline import Examples, train_batches, val_batches
from segkit.data.recipe import make_augmentation

SIZE = (16, 24)


def examples(count: int = 10) -> tf.data.Dataset:
    """Images of different sizes whose grey level and mask are their number."""

    def generate():
        for i in range(count):
            height, width = 20 + i, 40 - i
            yield {
                "image": np.full((height, width, 3), i, np.uint8),
                "mask": np.full((height, width), i, np.uint8),
                "stem": f"image_{i}",
            }

    signature = {
        "image": tf.TensorSpec((None, None, 3), tf.uint8),
        "mask": tf.TensorSpec((None, None), tf.uint8),
        "stem": tf.TensorSpec((), tf.string),
    }
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(count))


def take(count: int, *, seed: int = 1, augmentation: tuple = ()) -> list:
    batches = train_batches(
        Examples(examples()), image_size=SIZE, batch_size=4, augmentation=augmentation, seed=seed
    )
    return [(image.numpy(), mask.numpy()) for image, mask in batches.take(count)]


def test_train_batches_are_endless_and_full() -> None:
    for image, mask in take(7):
        assert (image.shape, image.dtype) == ((4, *SIZE, 3), np.float32)
        assert (mask.shape, mask.dtype) == ((4, *SIZE), np.uint8)
        assert np.allclose(image[..., 0], mask, atol=1e-3)


def test_every_epoch_has_every_example_once_in_an_order_of_its_own() -> None:
    numbers = np.concatenate([mask[:, 0, 0] for _, mask in take(10)])
    epochs = numbers.reshape(4, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 4


def test_the_same_seed_gives_the_same_batches() -> None:
    augmentation = make_augmentation(["default"], SIZE, crop_size=SIZE)
    first, second = (take(6, augmentation=augmentation) for _ in range(2))
    for left, right in zip(first, second, strict=True):
        assert np.array_equal(left[0], right[0])
        assert np.array_equal(left[1], right[1])
    other = take(6, seed=2, augmentation=augmentation)
    assert any(not np.array_equal(x[0], y[0]) for x, y in zip(first, other, strict=True))


def test_an_example_is_augmented_anew_in_each_epoch() -> None:
    batches = take(10, augmentation=make_augmentation(["default"], SIZE, crop_size=SIZE))
    images = {image.tobytes() for batch, _ in batches for image in batch}
    assert len(images) > 25  # flat images look alike when only mirrored


def test_val_batches_have_every_example_once_in_order() -> None:
    batches = list(val_batches(examples(), image_size=SIZE, batch_size=4))
    assert [len(mask) for _, mask in batches] == [4, 4, 2]
    image, mask = (np.concatenate([part[i].numpy() for part in batches]) for i in (0, 1))
    assert mask[:, 0, 0].tolist() == list(range(10))
    assert np.allclose(image[..., 0], mask, atol=1e-3)
    assert (image.dtype, mask.dtype) == (np.float32, np.uint8)


def test_no_examples_are_an_error() -> None:
    with pytest.raises(ValueError, match="no examples"):
        train_batches(Examples(examples(0)), image_size=SIZE, batch_size=1, augmentation=(), seed=0)
