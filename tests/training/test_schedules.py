from __future__ import annotations

import pytest

from segkit.training.optimizers import OPTIMIZERS, make_optimizer
from segkit.training.schedules import PolynomialWithWarmup


def test_warms_up_then_decays_to_the_end_share() -> None:
    schedule = PolynomialWithWarmup(0.1, total_steps=110, warmup_steps=10)
    rates = [float(schedule(step)) for step in range(130)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[9] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.1 * (0.01 + 0.99 * 0.5**0.9))
    assert rates[110] == rates[129] == pytest.approx(0.001)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_starts_at_the_peak_without_warmup() -> None:
    assert float(PolynomialWithWarmup(0.1, total_steps=10)(0)) == pytest.approx(0.1)


def test_survives_its_configuration() -> None:
    schedule = PolynomialWithWarmup(0.1, total_steps=10, warmup_steps=3, power=2.0)
    again = PolynomialWithWarmup.from_config(schedule.get_config())
    assert [float(again(s)) for s in range(12)] == [float(schedule(s)) for s in range(12)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_spares_normalisation_and_bias(name: str) -> None:
    import tensorflow as tf

    model = tf.keras.Sequential(
        [tf.keras.layers.Conv2D(2, 1, input_shape=(4, 4, 3)), tf.keras.layers.BatchNormalization()]
    )
    for weight in model.trainable_weights:
        weight.assign(tf.ones_like(weight))
    optimizer = make_optimizer(name, 0.5, weight_decay=0.1)
    zeros = [tf.zeros_like(weight) for weight in model.trainable_variables]
    optimizer.apply_gradients(zip(zeros, model.trainable_variables, strict=True))
    kernel, *others = model.trainable_weights
    assert float(kernel[0, 0, 0, 0]) == pytest.approx(1.0 if name == "adam" else 0.95)
    for weight in others:
        assert float(tf.reduce_min(weight)) == 1
