from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from segkit.training.losses import AUXILIARY_WEIGHT, cross_entropy, deeply_supervised

LOGITS = np.log(np.array([[[[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]]], np.float32))


def test_is_the_mean_over_the_valid_pixels() -> None:
    mask = np.array([[[0, 255, 1]]], np.uint8)
    assert float(cross_entropy(mask, LOGITS)) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2)


def test_an_ignored_pixel_has_no_gradient() -> None:
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = cross_entropy(np.array([[[0, 255, 1]]], np.uint8), logits)
    gradient = tape.gradient(loss, logits).numpy()
    assert not gradient[0, 0, 1].any()
    assert gradient[0, 0, 0].any()


def test_all_ignored_is_zero_not_nan() -> None:
    assert float(cross_entropy(np.full((1, 1, 3), 255, np.uint8), LOGITS)) == 0


def test_the_auxiliary_head_weighs_less() -> None:
    mask = np.array([[[0, 0, 1]]], np.uint8)
    once = float(cross_entropy(mask, LOGITS))
    assert float(deeply_supervised(mask, [LOGITS])) == pytest.approx(once)
    assert float(deeply_supervised(mask, [LOGITS, LOGITS])) == pytest.approx(
        (1 + AUXILIARY_WEIGHT) * once
    )
