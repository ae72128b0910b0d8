"""segkit's layers against Keras's: the same values and gradients, another graph."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from segkit.models.layers import Conv2D, DepthwiseConv2D, Resize, interpolation_matrix


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def ops(layer: tf.keras.layers.Layer, x: np.ndarray) -> Counter[str]:
    graph = tf.function(lambda x: layer(x, training=False)).get_concrete_function(x).graph
    plumbing = {"Placeholder", "Identity", "ReadVariableOp", "Const", "NoOp"}
    return Counter(op.type for op in graph.get_operations() if op.type not in plumbing)


def values_and_gradients(layer: tf.keras.layers.Layer, x: np.ndarray) -> list[Any]:
    image = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(image)
        y = layer(image, training=True)
        loss = tf.reduce_sum(tf.sin(y))
    return [y, *tape.gradient(loss, [image, *layer.trainable_variables])]


@pytest.mark.parametrize(
    ("size", "out_size"),
    [
        ((8, 10), (64, 80)),
        ((15, 23), (121, 77)),
        ((1, 1), (9, 7)),
        ((30, 40), (7, 11)),
    ],
)
def test_both_resizes_are_one_function(size: tuple[int, int], out_size: tuple[int, int]) -> None:
    x = noise(2, *size, 5)
    bilinear, matmul = Resize(out_size)(x), Resize(out_size, "matmul")(x)
    assert matmul.shape == (2, *out_size, 5)
    np.testing.assert_allclose(matmul, bilinear, atol=1e-5)
    np.testing.assert_allclose(bilinear, tf.image.resize(x, out_size), atol=1e-6)


def test_a_resize_of_ramps_is_exact_between_the_outer_centres() -> None:
    matrix = interpolation_matrix(4, 8)
    np.testing.assert_array_equal(matrix.sum(axis=1), 1)
    np.testing.assert_allclose(matrix @ [0, 1, 2, 3], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])


def test_matmul_resize_is_products_and_reshapes_alone() -> None:
    graph = ops(Resize((9, 12), "matmul"), noise(1, 3, 4, 2))
    assert graph == {"BatchMatMulV2": 2, "Reshape": 2}
    assert ops(Resize((9, 12)), noise(1, 3, 4, 2))["ResizeBilinear"] == 1


@pytest.mark.parametrize("method", ["bilinear", "matmul"])
def test_resize_comes_back_from_its_config_and_keeps_the_policy(method: Any) -> None:
    layer = Resize.from_config(Resize((6, 8), method, dtype="mixed_bfloat16").get_config())
    assert (layer.size, layer.method) == ((6, 8), method)
    assert layer(noise(1, 3, 4, 2)).dtype == tf.bfloat16


@pytest.mark.parametrize(("kernel", "rate"), [(3, 2), (3, 6), (5, 2), (3, 1)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_dilated_convolution_equals_keras_in_one_op(kernel: int, rate: int, padding: str) -> None:
    x = noise(2, 19, 22, 4)
    arguments: dict[str, Any] = {"padding": padding, "dilation_rate": rate, "activation": "relu"}
    stock, layer = tf.keras.layers.Conv2D(6, kernel, **arguments), Conv2D(6, kernel, **arguments)
    stock.build(x.shape)
    layer.build(x.shape)
    layer.set_weights(stock.get_weights())
    for ours, theirs in zip(
        values_and_gradients(layer, x), values_and_gradients(stock, x), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(layer(x, training=False), stock(x), atol=1e-4, rtol=1e-4)
    assert ops(layer, x) == {"Conv2D": 1, "BiasAdd": 1, "Relu": 1}
    assert ("SpaceToBatchND" in ops(stock, x)) == (rate > 1)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("kernel", "rate"), [(3, 2), (3, (3, 6)), (5, 2), (3, 18)])
def test_dilated_depthwise_convolution_equals_keras_in_ops_for_tensorrt(
    kernel: int, rate: int | tuple[int, int], padding: str
) -> None:
    x = noise(2, 39, 42, 4)
    arguments: dict[str, Any] = {"padding": padding, "dilation_rate": rate, "activation": "relu"}
    stock = tf.keras.layers.DepthwiseConv2D(kernel, **arguments)
    layer = DepthwiseConv2D(kernel, native=True, **arguments)
    stock.build(x.shape)
    layer.build(x.shape)
    layer.set_weights(stock.get_weights())
    np.testing.assert_allclose(layer(x, training=False), stock(x), atol=1e-5)
    found = ops(layer, x)
    assert found["DepthwiseConv2dNative"] == 1
    assert not {"SpaceToBatchND", "BatchToSpaceND"} & set(found)
    assert "SpaceToBatchND" in ops(stock, x)
    for ours, theirs in zip(
        values_and_gradients(layer, x), values_and_gradients(stock, x), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_depthwise_convolution_without_dilation_is_one_op() -> None:
    layer = DepthwiseConv2D(3, padding="same", native=True)
    assert ops(layer, noise(1, 8, 8, 4)) == {"DepthwiseConv2dNative": 1, "BiasAdd": 1}


def test_why_no_dilations_are_left_to_the_op() -> None:
    """Only oneDNN's kernel takes them. TF-TRT runs the others before it builds an engine."""
    code = (
        "import tensorflow as tf\n"
        "x, kernel = tf.zeros((1, 12, 12, 2)), tf.zeros((3, 3, 2, 1))\n"
        "try: tf.raw_ops.DepthwiseConv2dNative(input=x, filter=kernel, strides=[1] * 4,"
        " padding='SAME', dilations=[1, 3, 3, 1])\n"
        "except tf.errors.UnimplementedError as err: print(err.message)"
    )
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    reply = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert "does not support dilations" in reply.stdout


def test_depthwise_convolution_comes_back_from_its_config() -> None:
    layer = DepthwiseConv2D(3, dilation_rate=4, native=True, name="a")
    again = DepthwiseConv2D.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.native
