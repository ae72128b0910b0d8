"""benchmarks/stock_layers.py: segkit's forms of a network against the one in Keras's layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from stock_layers import stock_keras

from segkit.models import NETWORKS, build_model
from segkit.models.layers import Conv2D

SIZE = (64, 96)


def is_stock(layer: tf.keras.layers.Layer) -> bool:
    return type(layer).__module__.startswith("keras.")


@pytest.mark.parametrize("name", NETWORKS)
def test_both_forms_equal_the_network_in_stock_layers(name: str) -> None:
    tf.keras.utils.set_random_seed(3)
    model = build_model(name, SIZE, 3)
    stock = stock_keras(model)
    assert all(map(is_stock, stock.layers)) and not all(map(is_stock, model.layers))
    assert [layer.name for layer in stock.layers] == [layer.name for layer in model.layers]

    matmul = build_model(name, SIZE, 3, resize="matmul")
    matmul.set_weights(model.get_weights())
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (2, 4, 6, 3)).repeat(16, 1).repeat(16, 2).astype(np.float32)
    expected = np.asarray(stock(image, training=False))
    assert expected.std() > 0
    for form in (model, matmul):
        error = np.abs(np.asarray(form(image, training=False)) - expected).max()
        assert error <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("form", ["bilinear", "matmul"])
def test_either_form_has_the_same_stock_network(form: Any) -> None:
    model = build_model("mobilenetv3_deeplabv3plus", SIZE, 3, resize=form)
    dilated = [
        layer
        for layer in stock_keras(model).layers
        if getattr(layer, "dilation_rate", (1, 1)) != (1, 1)
    ]
    assert len(dilated) == 5  # two of the backbone, three of ASPP
    assert {type(layer) for layer in dilated} == {tf.keras.layers.DepthwiseConv2D}


def test_a_dilated_convolution_becomes_keras_s() -> None:
    image = tf.keras.Input((9, 11, 2))
    model = tf.keras.Model(image, Conv2D(3, 3, dilation_rate=2, padding="same")(image))
    stock = stock_keras(model)
    assert type(stock.layers[-1]) is tf.keras.layers.Conv2D
    x = np.random.default_rng(0).standard_normal((2, 9, 11, 2)).astype(np.float32)
    np.testing.assert_allclose(model(x), stock(x), atol=1e-5)
