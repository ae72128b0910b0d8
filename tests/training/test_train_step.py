from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from segkit import models
from segkit.models.layers import Normalization
from segkit.models.network import Network, NetworkOptions
from segkit.training.average import WeightAverage
from segkit.training.objective import Objective
from segkit.training.optimizers import build_slots, make_optimizer
from segkit.training.train_step import make_train_step

SIZE = (32, 32)


def network(image: tf.Tensor, num_classes: int, options: NetworkOptions) -> tuple[Any, None]:
    x = tf.keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(image)
    return tf.keras.layers.Conv2D(num_classes, 1, dtype="float32", name="head")(x), None


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> tf.keras.Model:
    same = Normalization((100.0,) * 3, (50.0,) * 3, "x")
    monkeypatch.setitem(models.NETWORKS, "small", Network(network, same, head=()))
    tf.keras.utils.set_random_seed(2)
    return models.build_model("small", SIZE, 3)


def batch() -> tuple[tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(1)
    image = rng.uniform(0, 255, (2, *SIZE, 3)).astype(np.float32)
    return tf.constant(image), tf.constant(rng.choice([0, 1, 255], (2, *SIZE)).astype(np.uint8))


def moved(model: tf.keras.Model, *, clip_norm: float, rate: float = 0.5) -> float:
    """How far one step of SGD goes, over all weights."""
    before = model.get_weights()
    optimizer = make_optimizer("sgd", rate, weight_decay=0.0)
    build_slots(optimizer, model.trainable_variables)
    step = make_train_step(
        model,
        optimizer,
        tf.distribute.get_strategy(),
        objective=Objective(),
        clip_norm=clip_norm,
    )
    step(batch())
    changes = [new - old for new, old in zip(model.get_weights(), before, strict=True)]
    model.set_weights(before)
    return float(np.sqrt(sum((change**2).sum() for change in changes)))


def test_a_gradient_that_is_too_long_is_shortened_and_no_other(model: tf.keras.Model) -> None:
    free = moved(model, clip_norm=0.0)
    assert moved(model, clip_norm=0.1 * free / 0.5) == pytest.approx(0.1 * free, rel=1e-4)
    assert moved(model, clip_norm=3 * free / 0.5) == pytest.approx(free, rel=1e-5)


def test_the_average_takes_in_every_step(model: tf.keras.Model) -> None:
    optimizer = make_optimizer("sgd", 0.5, weight_decay=0.0)
    build_slots(optimizer, model.trainable_variables)
    average = WeightAverage(model, decay=0.999)
    step = make_train_step(
        model, optimizer, tf.distribute.get_strategy(), objective=Objective(), average=average
    )
    expected = model.get_weights()
    for done in (1, 2, 3):
        step(batch())
        decay = (1 + done) / (10 + done)
        expected = [
            decay * e + (1 - decay) * w for e, w in zip(expected, model.get_weights(), strict=True)
        ]
    with average.in_place():
        for found, mean in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-6)
