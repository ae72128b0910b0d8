from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from segkit import models
from segkit.models.layers import Normalization
from segkit.models.network import Network, NetworkOptions
from segkit.training.optimizers import (
    OPTIMIZERS,
    PartOptimizer,
    build_slots,
    by_part,
    current_learning_rate,
    make_optimizer,
)
from segkit.training.schedules import WarmupDecay

RATE, DECAY = 0.01, 0.1


def network(image: tf.Tensor, num_classes: int, options: NetworkOptions) -> tuple[Any, None]:
    x = tf.keras.layers.Conv2D(4, 3, bias_initializer="ones", name="stem.conv")(image)
    x = tf.keras.layers.BatchNormalization(name="stem.norm")(x)
    return tf.keras.layers.Conv2D(num_classes, 1, bias_initializer="ones", name="head.conv")(
        x
    ), None


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> tf.keras.Model:
    same = Normalization((0.0,) * 3, (1.0,) * 3, "as it comes")
    monkeypatch.setitem(models.NETWORKS, "small", Network(network, same, head=("head",)))
    return models.build_model("small", (32, 32), 3)


def apply(optimizer: Any, model: tf.keras.Model, gradients: Any, *, steps: int = 1) -> list[Any]:
    """Changes of the weights, relative to what they were."""
    before = [weight.numpy() for weight in model.trainable_weights]
    build_slots(optimizer, model.trainable_variables)
    for _ in range(steps):
        optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True),
            experimental_aggregate_gradients=False,
        )
    return [
        weight.numpy() - old for weight, old in zip(model.trainable_weights, before, strict=True)
    ]


def gradients(model: tf.keras.Model, value: float) -> list[tf.Tensor]:
    return [tf.fill(weight.shape, value) for weight in model.trainable_weights]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_kernels_alone_are_decayed_and_not_by_adam(name: Any, model: tf.keras.Model) -> None:
    before = [weight.numpy() for weight in model.trainable_weights]
    optimizer = make_optimizer(name, RATE, weight_decay=DECAY)
    changes = apply(optimizer, model, gradients(model, 0.0))
    for weight, old, change in zip(model.trainable_weights, before, changes, strict=True):
        decays = "kernel" in weight.name and name != "adam"
        expected = -RATE * DECAY * old if decays else np.zeros_like(old)
        np.testing.assert_allclose(change, expected, rtol=1e-3, atol=1e-7, err_msg=weight.name)
    assert any("kernel" in weight.name for weight in model.trainable_weights)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_decay_nothing_moves_without_a_gradient(name: Any, model: tf.keras.Model) -> None:
    changes = apply(make_optimizer(name, RATE, weight_decay=0.0), model, gradients(model, 0.0))
    assert not any(change.any() for change in changes)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_backbone_has_a_learning_rate_of_its_own(name: Any, model: tf.keras.Model) -> None:
    def make(factor: float) -> Any:
        return make_optimizer(name, RATE * factor, weight_decay=0.0)

    optimizer = by_part(make, model, backbone=0.1)
    changes = apply(optimizer, model, gradients(model, 0.5), steps=7)
    moved = {
        weight.name.partition(".")[0]: float(np.abs(change).mean())
        for weight, change in zip(model.trainable_weights, changes, strict=True)
    }
    assert moved["stem"] == pytest.approx(0.1 * moved["head"], rel=1e-3)
    assert int(optimizer.iterations) == 7
    assert current_learning_rate(optimizer) == pytest.approx(RATE)


def test_one_learning_rate_is_one_optimizer(model: tf.keras.Model) -> None:
    made = by_part(lambda f: make_optimizer("sgd", f, weight_decay=0.0), model, backbone=1.0)
    assert not isinstance(made, PartOptimizer)


def test_ranger_steps_back_half_way_every_sixth_step(model: tf.keras.Model) -> None:
    slow = make_optimizer("ranger", RATE, weight_decay=0.0)
    start = [weight.numpy() for weight in model.trainable_weights]
    after_six = apply(slow, model, gradients(model, 0.5), steps=6)
    for weight, value in zip(model.trainable_weights, start, strict=True):
        weight.assign(value)
    fast = make_optimizer("radam", RATE, weight_decay=0.0)
    for half, whole in zip(
        after_six, apply(fast, model, gradients(model, 0.5), steps=6), strict=True
    ):
        np.testing.assert_allclose(half, 0.5 * whole, rtol=1e-4)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("scaled", [False, True])
def test_the_learning_rate_of_the_last_step(name: Any, scaled: bool, model: tf.keras.Model) -> None:
    schedule = WarmupDecay(RATE, total_steps=20, warmup_steps=2)
    optimizer = make_optimizer(name, schedule, weight_decay=0.0)
    if scaled:
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
    apply(optimizer, model, gradients(model, 0.5), steps=5)
    assert current_learning_rate(optimizer) == pytest.approx(float(schedule(4)))
