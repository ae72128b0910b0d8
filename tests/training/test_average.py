from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from segkit.training.average import WeightAverage


def make_model() -> tf.keras.Model:
    image = tf.keras.Input((4, 4, 3))
    x = tf.keras.layers.Conv2D(2, 1, name="conv")(image)
    return tf.keras.Model(image, tf.keras.layers.BatchNormalization(name="norm")(x))


def test_the_average_follows_every_weight_and_forgets_its_start_soon() -> None:
    model = make_model()
    average = WeightAverage(model, decay=0.8)
    expected = model.get_weights()
    rng = np.random.default_rng(0)
    for step in range(1, 40):
        weights = [rng.normal(size=weight.shape) for weight in model.get_weights()]
        model.set_weights(weights)
        average.update(tf.constant(step, tf.int64))
        decay = min(0.8, (1 + step) / (10 + step))
        expected = [decay * e + (1 - decay) * w for e, w in zip(expected, weights, strict=True)]
    own = model.get_weights()
    with average.in_place():
        for found, mean in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-6)
    for found, before in zip(model.get_weights(), own, strict=True):
        np.testing.assert_array_equal(found, before)


def test_the_weights_come_back_whatever_happens() -> None:
    model = make_model()
    average = WeightAverage(model, decay=0.9)
    model.set_weights([weight + 1 for weight in model.get_weights()])
    own = model.get_weights()
    with pytest.raises(OSError, match="full"), average.in_place():
        raise OSError("full")
    assert all((a == b).all() for a, b in zip(model.get_weights(), own, strict=True))


def test_half_precision_is_averaged_in_float32() -> None:
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = make_model()
    average = WeightAverage(model, decay=0.5)
    model.set_weights([np.full(weight.shape, 1.001) for weight in model.get_weights()])
    for step in range(1, 30):
        average.update(tf.constant(step))
    with average.in_place():
        assert all(np.allclose(weight, 1.001, atol=1e-6) for weight in model.get_weights())
