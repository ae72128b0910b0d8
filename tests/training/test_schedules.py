from __future__ import annotations

from typing import Any

import pytest

from segkit.training.optimizers import OPTIMIZERS, make_optimizer
from segkit.training.schedules import DECAYS, WarmupDecay


def test_warms_up_then_decays_to_the_end_share() -> None:
    schedule = WarmupDecay(0.1, total_steps=110, warmup_steps=10)
    rates = [float(schedule(step)) for step in range(130)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[9] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.1 * (0.01 + 0.99 * 0.5**0.9))
    assert rates[110] == rates[129] == pytest.approx(0.001)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize("decay", DECAYS)
def test_starts_at_the_peak_without_warmup(decay: Any) -> None:
    assert float(WarmupDecay(0.1, decay, total_steps=10)(0)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("decay", "shares"),
    [
        ("cosine", {0: 1, 25: 0.01 + 0.99 * 0.853553, 50: 0.505, 100: 0.01, 120: 0.01}),
        ("step", {0: 1, 59: 1, 60: 0.1, 84: 0.1, 85: 0.01, 100: 0.01}),
        ("constant", {0: 1, 50: 1, 100: 1}),
    ],
)
def test_decays_by_its_formula_after_the_warmup(decay: Any, shares: dict[int, float]) -> None:
    schedule = WarmupDecay(0.5, decay, total_steps=107, warmup_steps=7)
    found = {step: float(schedule(7 + step)) for step in shares}
    assert found == pytest.approx({step: 0.5 * share for step, share in shares.items()})
    assert float(schedule(0)) == pytest.approx(0.5 / 7)


@pytest.mark.parametrize("decay", DECAYS)
def test_survives_its_configuration(decay: Any) -> None:
    schedule = WarmupDecay(0.1, decay, total_steps=10, warmup_steps=3, power=2.0)
    again = WarmupDecay.from_config(schedule.get_config())
    assert [float(again(s)) for s in range(12)] == [float(schedule(s)) for s in range(12)]


def test_an_unknown_decay_is_named() -> None:
    unknown: Any = "linear"
    with pytest.raises(ValueError, match="decay is 'linear': expected one of polynomial, cosine"):
        WarmupDecay(0.1, unknown, total_steps=10)


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
