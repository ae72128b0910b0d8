"""What every network must do; a new line in NETWORKS is tested here without another word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from segkit.errors import ModelError
from segkit.models import NETWORKS, build_model, inference_model

pytestmark = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture
def mixed_bfloat16() -> Iterator[None]:
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def noise(*size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (2, *size, 3)).astype(np.float32)


@pytest.mark.parametrize("num_classes", [1, 150])
def test_logits_have_the_size_of_the_image(name: str, num_classes: int) -> None:
    model = build_model(name, (64, 88), num_classes, auxiliary=True)
    for logits in model(noise(64, 88)):
        assert logits.shape == (2, 64, 88, num_classes)
        assert logits.dtype == tf.float32
        assert np.isfinite(logits).all()


def test_every_weight_gets_a_gradient(name: str) -> None:
    model = build_model(name, (64, 64), 4, auxiliary=True)
    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_mean(tf.square(out)) for out in model(noise(64, 64), training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.name
        assert np.isfinite(gradient).all(), variable.name


def test_weights_survive_a_file_and_another_image_size(name: str, tmp_path: Path) -> None:
    small = build_model(name, (64, 64), 4, auxiliary=True)
    small.save_weights(tmp_path / "weights.h5")
    large = build_model(name, (128, 64), 4, auxiliary=True)
    large.load_weights(tmp_path / "weights.h5")
    for mine, theirs in zip(small.weights, large.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=mine.name)


def test_a_saved_model_answers_the_same(name: str, tmp_path: Path) -> None:
    model = inference_model(build_model(name, (64, 64), 4, auxiliary=True))
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(noise(64, 64)), model(noise(64, 64)), atol=1e-5)


@pytest.mark.usefixtures("mixed_bfloat16")
def test_mixed_precision_keeps_float32_logits(name: str) -> None:
    model = build_model(name, (64, 64), 4, auxiliary=True)
    assert [logits.dtype for logits in model(noise(64, 64), training=True)] == [tf.float32] * 2
    assert {weight.dtype for weight in model.weights} == {tf.float32}


def test_a_size_that_does_not_fit_is_told_the_next_that_does(name: str) -> None:
    multiple = NETWORKS[name].multiple
    with pytest.raises(ModelError, match=f"--image_size {multiple * 2} {multiple * 3}"):
        build_model(name, (multiple + 1, multiple * 3), 4)


def test_a_misspelt_name_is_answered_with_the_close_one(name: str) -> None:
    with pytest.raises(ModelError, match=f"perhaps '{name}'"):
        build_model(name[:-1], (64, 64), 4)
