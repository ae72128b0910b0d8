"""The backbones against the networks of tf.keras.applications that they are made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from segkit.models.backbones import (
    EFFICIENTNETV2S,
    EFFICIENTNETV2S_STRIDE_16,
    MOBILENETV3LARGE,
    Backbone,
)

SIZE = (256, 320)


def noise() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (1, *SIZE, 3)).astype(np.float32)


def ours_and_published(
    backbone: Backbone, *, without_gates: bool = False
) -> tuple[tf.keras.Model, tf.keras.Model]:
    """The taps of both with the same weights; `without_gates` makes squeeze-excite a constant."""
    tf.keras.utils.set_random_seed(4)
    whole = backbone.as_published(None, SIZE)
    outputs = [whole.get_layer(backbone.low).output, whole.get_layer(backbone.high).output]
    published = tf.keras.Model(whole.input, outputs)
    image = tf.keras.Input((*SIZE, 3))
    ours = tf.keras.Model(image, list(backbone(image, native=False)))
    if without_gates:
        for layer in published.layers:
            if layer.name.endswith(("se_expand", "squeeze_excite/Conv_1")):
                layer.set_weights([np.zeros(weight.shape) for weight in layer.weights])
    for layer in ours.layers:
        if layer.weights:
            layer.set_weights(published.get_layer(layer.name).get_weights())
    count = sum(1 for layer in published.layers if layer.weights)
    assert sum(1 for layer in ours.layers if layer.weights) == count
    return ours, published


def test_without_dilation_it_is_the_published_network() -> None:
    ours, published = ours_and_published(EFFICIENTNETV2S_STRIDE_16)
    for mine, theirs in zip(ours(noise()), published(noise()), strict=True):
        assert mine.shape[1:3] in {(SIZE[0] // 4, SIZE[1] // 4), (SIZE[0] // 16, SIZE[1] // 16)}
        np.testing.assert_allclose(mine, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("backbone", "border"),
    [
        (replace(EFFICIENTNETV2S, high="block6b_add"), 2),
        (replace(MOBILENETV3LARGE, high="expanded_conv_13/Add"), 3),
    ],
)
def test_dilated_features_are_the_published_ones_and_those_between(
    backbone: Backbone, border: int
) -> None:
    """Every second dense feature is one of stride 32: "atrous consistency", as deeplab2 tests it.

    Keras pads even sizes by one less before its stride of 2, so the first of them is at 1. Two
    blocks deep, because each sees other padding at its border; squeeze-excite averages over other
    places, and is made a constant.
    """
    ours, published = ours_and_published(backbone, without_gates=True)
    low, high = ours(noise())
    published_low, published_high = published(noise())
    np.testing.assert_allclose(low, published_low, atol=1e-4 * np.abs(published_low).max())
    assert high.shape[1:3] == (SIZE[0] // 16, SIZE[1] // 16)
    inside = slice(border, -border)
    theirs = published_high.numpy()[:, inside, inside]
    assert theirs.size > 1000
    np.testing.assert_allclose(
        high.numpy()[:, 1::2, 1::2][:, inside, inside], theirs, atol=1e-4 * np.abs(theirs).max()
    )


@pytest.mark.parametrize("backbone", [EFFICIENTNETV2S, MOBILENETV3LARGE])
def test_the_normalisation_is_that_of_keras(backbone: Backbone) -> None:
    function = getattr(tf.keras.applications, backbone.application)
    whole = function(input_shape=(*SIZE, 3), include_top=False, weights=None)
    keras = tf.keras.Model(whole.input, whole.layers[1].output)
    image = np.random.default_rng(0).uniform(0, 255, (1, *SIZE, 3)).astype(np.float32)
    ours = backbone.normalization.layer(name="normalization")
    np.testing.assert_allclose(ours(image), keras(image), atol=1e-5)
    assert "Rescaling" in type(whole.layers[1]).__name__
