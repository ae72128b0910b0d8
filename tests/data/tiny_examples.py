"""Examples that transforms are tried on."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from segkit.data.transforms import Example
from segkit.labels import IGNORE_ID


def example(seed: int = 0, size: tuple[int, int] = (30, 50)) -> Example:
    rng = np.random.default_rng(7)
    return {
        "image": tf.constant(rng.uniform(0, 255, (*size, 3)), tf.float32),
        "mask": tf.constant(rng.integers(0, 5, size), tf.uint8),
        "seed": tf.constant([3, seed], tf.int64),
        "stem": tf.constant("a"),
    }


def marked(seed: int) -> Example:
    """An image whose red channel says what its mask says, in areas larger than a kernel."""
    mask = np.kron(np.random.default_rng(1).integers(0, 2, (4, 5)), np.ones((16, 16)))
    image = np.stack([mask * 250] * 3, axis=-1)
    return {
        "image": tf.constant(image, tf.float32),
        "mask": tf.constant(mask, tf.uint8),
        "seed": tf.constant([0, seed], tf.int64),
    }


def follows(result: Example) -> bool:
    """Whether image and mask of a transformed `marked` still say the same.

    Half-way values on the borders of the areas may fall to either side, nothing else.
    """
    mask, red = result["mask"].numpy(), result["image"].numpy()[..., 0]
    decided = (mask != IGNORE_ID) & (abs(red - 125) > 100)
    return decided.sum() > 50 and np.array_equal(red[decided] > 125, mask[decided] == 1)


def same(left: Example, right: Example) -> bool:
    return all(np.allclose(left[key], right[key], atol=1e-3) for key in ("image", "mask", "seed"))
