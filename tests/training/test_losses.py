from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from segkit.training.losses import (
    AUXILIARY_WEIGHT,
    cross_entropy,
    deeply_supervised,
    make_target,
    upsample,
)

LOGITS = np.log(np.array([[[[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]]], np.float32))  # (1, 1, 3, 2)
PLANES = LOGITS.transpose(3, 0, 1, 2)


def test_is_the_mean_over_the_valid_pixels() -> None:
    target = make_target(np.array([[[0, 255, 1]]], np.uint8))
    assert float(cross_entropy(PLANES, target)) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2)


def test_an_ignored_pixel_has_no_gradient() -> None:
    logits = tf.constant(PLANES)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = cross_entropy(logits, make_target(np.array([[[0, 255, 1]]], np.uint8)))
    gradient = tape.gradient(loss, logits).numpy()
    assert not gradient[..., 1].any()
    assert gradient[..., 0].any()


def test_all_ignored_is_zero_not_nan() -> None:
    target = make_target(np.full((1, 1, 3), 255, np.uint8))
    assert float(cross_entropy(PLANES, target)) == 0


def test_large_logits_stay_finite() -> None:
    target = make_target(np.array([[[0, 0, 1]]], np.uint8))
    assert np.isfinite(float(cross_entropy(PLANES * 1e4, target)))


def test_equals_keras_on_upsampled_logits() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (2, 5, 7, 4)).astype(np.float32)
    mask = rng.choice([0, 1, 2, 3, 255], (2, 33, 50)).astype(np.uint8)
    keras = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    expected = keras(mask, tf.image.resize(logits, (33, 50)))
    found = deeply_supervised([logits], make_target(mask), image_size=(33, 50))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_upsampling_is_that_of_the_network() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    expected = tf.transpose(tf.image.resize(logits, (40, 56)), [3, 0, 1, 2])
    np.testing.assert_allclose(upsample(tf.constant(logits), (40, 56)), expected, atol=1e-5)


def test_the_auxiliary_head_weighs_less() -> None:
    target = make_target(np.array([[[0, 0, 1]]], np.uint8))
    once = float(cross_entropy(PLANES, target))
    heads = [tf.constant(LOGITS)]
    assert float(deeply_supervised(heads, target, image_size=(1, 3))) == pytest.approx(once)
    assert float(deeply_supervised(2 * heads, target, image_size=(1, 3))) == pytest.approx(
        (1 + AUXILIARY_WEIGHT) * once
    )
