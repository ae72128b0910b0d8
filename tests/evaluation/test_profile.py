from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from segkit.evaluation.profile import (
    Activations,
    Macs,
    Parameters,
    count_activations,
    count_macs,
    count_parameters,
    profile_model,
    uncounted_ops,
)
from segkit.models import build_model
from segkit.models.graph import InferenceGraph, float_core, freeze

SLOW = pytest.mark.slow


def graph(function: Callable[..., Any], *shapes: Any) -> InferenceGraph:
    """The inference graph of a function of float32 tensors."""
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    return freeze(tf.function(function).get_concrete_function(*specs))


def kernel(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).standard_normal(shape), tf.float32)


def macs(**counts: int) -> Macs:
    return Macs(**{"convolution": 0, "depthwise": 0, "matmul": 0, **counts})


# === Networks ===


@pytest.mark.parametrize(
    ("num_classes", "parameters"), [(11, 5_695_467), (19, 5_695_987), (150, 5_704_502)]
)
def test_ddrnet_has_the_parameters_of_its_authors_network(
    num_classes: int, parameters: int
) -> None:
    found = count_parameters(build_model("ddrnet23_slim", (64, 64), num_classes))
    assert found == Parameters(trainable=parameters, non_trainable=19_840)


@pytest.mark.parametrize(
    ("image_size", "giga"),
    [((1024, 2048), 36.28), ((720, 960), 12.01), ((512, 1024), 9.07), ((360, 480), 3.04)],
)
def test_ddrnet_costs_what_its_authors_network_costs(
    image_size: tuple[int, int], giga: float
) -> None:
    counted = profile_model(build_model("ddrnet23_slim", image_size, 19)).macs
    assert counted.total == counted.convolution == pytest.approx(giga * 1e9, rel=0.01)


# Counted once on Keras models of the same topology, by another program; 11 classes.
@pytest.mark.parametrize(
    ("network", "image_size", "mega", "giga"),
    [
        ("ddrnet23_slim", (480, 640), 5.72, 5.32),
        ("efficientnetv2s_deeplabv3plus", (480, 640), 20.83, 31.5),
        pytest.param("efficientnetv2s_deeplabv3plus", (360, 480), 20.83, 17.9, marks=SLOW),
        ("efficientnetv2s_deeplabv3plus_light", (480, 640), 5.58, 14.8),
        pytest.param("efficientnetv2s_deeplabv3plus_light", (360, 480), 5.58, 8.4, marks=SLOW),
        ("mobilenetv3_deeplabv3plus", (480, 640), 3.54, 5.5),
        ("mobilenetv3_deeplabv3plus", (360, 480), 3.54, 3.1),
    ],
)
def test_sizes_of_the_networks(
    network: str, image_size: tuple[int, int], mega: float, giga: float
) -> None:
    profile = profile_model(build_model(network, image_size, 11))
    parameters = profile.parameters.trainable + profile.parameters.non_trainable
    assert parameters == pytest.approx(mega * 1e6, rel=0.01)
    assert profile.macs.total == pytest.approx(giga * 1e9, rel=0.01)


def test_both_forms_differ_by_their_resizes_alone() -> None:
    bilinear, matmul = (
        profile_model(build_model("mobilenetv3_deeplabv3plus", (64, 96), 3, resize=form))
        for form in ("bilinear", "matmul")
    )
    assert bilinear.parameters == matmul.parameters
    assert bilinear.macs.convolution == matmul.macs.convolution
    assert bilinear.macs.matmul == 0 < matmul.macs.matmul
    assert bilinear.macs.depthwise == matmul.macs.depthwise
    both = {"AddV2", "ConcatV2", "FusedBatchNormV3", "Mean", "Mul", "Pad", "Relu", "Relu6", "Sub"}
    resizes_and_dilations = {"BatchToSpaceND", "ResizeBilinear", "SpaceToBatchND"}
    assert set(bilinear.uncounted) == both | resizes_and_dilations
    assert set(matmul.uncounted) == both | {"StridedSlice", "Transpose"}


def test_a_profile_is_exact_json() -> None:
    profile = profile_model(build_model("ddrnet23_slim", (64, 96), 3))
    record = json.loads(json.dumps(profile.to_json()))
    assert record["image_size"] == [64, 96]
    assert record["macs"]["total"] == profile.macs.total
    assert record["activations"]["peak_bytes"] == profile.activations.peak_bytes


# === Multiply-accumulates by op ===


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # output elements x kernel height x kernel width x input channels
        ({"padding": "SAME"}, 8 * 10 * 5 * 3 * 3 * 4),
        ({"padding": "VALID"}, 6 * 8 * 5 * 3 * 3 * 4),
        ({"padding": "SAME", "strides": 2}, 4 * 5 * 5 * 3 * 3 * 4),
        ({"padding": "VALID", "dilations": 2}, 4 * 6 * 5 * 3 * 3 * 4),
    ],
)
def test_convolution(arguments: dict[str, Any], expected: int) -> None:
    arguments = {"strides": 1, **arguments}
    filters = kernel(3, 3, 4, 5)
    found = count_macs(graph(lambda x: tf.nn.conv2d(x, filters, **arguments), [1, 8, 10, 4]))
    assert found == macs(convolution=expected)


@pytest.mark.parametrize("bias", ["zeros", "ones"])  # Grappler takes one of zeros out
def test_a_bias_costs_nothing_and_a_batch_what_it_holds(bias: str) -> None:
    layer = tf.keras.layers.Conv2D(5, 1, bias_initializer=bias)
    found = graph(layer, [2, 8, 10, 4])
    assert count_macs(found) == macs(convolution=2 * 8 * 10 * 5 * 4)
    assert uncounted_ops(found) == {}
    assert count_activations(found).sum_bytes == 2 * 8 * 10 * (4 + 5) * 4


def test_transposed_convolution_meets_every_input_with_the_whole_filter() -> None:
    filters = kernel(3, 3, 5, 4)

    def transposed(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d_transpose(x, filters, (1, 16, 20, 5), strides=2)

    assert count_macs(graph(transposed, [1, 8, 10, 4])) == macs(convolution=8 * 10 * 4 * 3 * 3 * 5)


def test_depthwise_convolution_with_multiplier_and_dilation() -> None:
    def depthwise(x: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.DepthwiseConv2dNative(
            input=x,
            filter=kernel(3, 3, 4, 2),
            strides=[1, 1, 1, 1],
            padding="SAME",
            dilations=[1, 3, 3, 1],
        )

    assert count_macs(graph(depthwise, [1, 8, 10, 4])) == macs(depthwise=8 * 10 * 4 * 2 * 3 * 3)


def test_a_dilated_layer_of_keras_counts_as_it_runs() -> None:
    layer = tf.keras.layers.DepthwiseConv2D(3, dilation_rate=3, padding="same", use_bias=False)
    found = graph(layer, [1, 8, 10, 4])
    # 8x10 in blocks of 3 is filled up to 9x12: nine pictures of 3x4.
    assert count_macs(found) == macs(depthwise=9 * 12 * 4 * 3 * 3)
    assert uncounted_ops(found) == {"BatchToSpaceND": 1, "SpaceToBatchND": 1}


@pytest.mark.parametrize(
    ("shapes", "arguments", "expected"),
    [
        (((2, 3), (3, 5)), {}, 2 * 5 * 3),
        (((3, 2), (3, 5)), {"transpose_a": True}, 2 * 5 * 3),
        (((2, 3), (5, 3)), {"transpose_b": True}, 2 * 5 * 3),
        (((7, 2, 3), (7, 3, 5)), {}, 7 * 2 * 5 * 3),
        (((7, 3, 2), (7, 3, 5)), {"adjoint_a": True}, 7 * 2 * 5 * 3),
        (((1, 2, 3), (7, 3, 5)), {}, 7 * 2 * 5 * 3),  # one matrix for seven
        (((7, 1, 2, 3), (4, 3, 5)), {}, 7 * 4 * 2 * 5 * 3),
    ],
)
def test_matrix_products(shapes: Any, arguments: dict[str, Any], expected: int) -> None:
    found = graph(lambda a, b: tf.matmul(a, b, **arguments), *shapes)
    assert count_macs(found) == macs(matmul=expected)


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("hk,bkwc->bhwc", ((6, 3), (2, 3, 5, 4)), 2 * 6 * 5 * 4 * 3),
        ("ph,bhwc,qw->bpqc", ((6, 3), (2, 3, 5, 4), (7, 5)), None),
        ("...ij,jk->...ik", ((2, 3, 4, 5), (5, 6)), 2 * 3 * 4 * 6 * 5),
        ("i...,i...->...", ((3, 4), (3, 4)), 4 * 3),
        ("bhwc->bwhc", ((2, 3, 5, 4),), 0),
    ],
)
def test_einsum(equation: str, shapes: Any, expected: int | None) -> None:
    found = count_macs(graph(lambda *x: tf.einsum(equation, *x), *shapes))
    if expected is None:  # of three operands: two products, whichever comes first
        rows_first = 2 * 6 * 5 * 4 * 3 + 2 * 6 * 7 * 4 * 5
        columns_first = 2 * 3 * 7 * 4 * 5 + 2 * 6 * 7 * 4 * 3
        assert found.matmul in (rows_first, columns_first)
    else:
        assert found == macs(matmul=expected)


def test_an_unknown_shape_is_refused() -> None:
    filters = kernel(1, 1, 4, 5)
    any_batch = graph(lambda x: tf.nn.conv2d(x, filters, 1, "SAME"), [None, 8, 10, 4])
    for count in (count_macs, count_activations):
        with pytest.raises(ValueError, match="batch size"):
            count(any_batch)


# === Activations ===

MEBI = 2**20
TENSOR = [MEBI // 4]  # one MiB of float32


def test_a_chain_keeps_two_tensors_alive() -> None:
    found = graph(lambda x: tf.nn.relu(tf.sin(tf.exp(x))), TENSOR)
    assert count_activations(found) == Activations(peak_bytes=2 * MEBI, sum_bytes=4 * MEBI)


def test_a_skip_connection_is_alive_until_it_is_added() -> None:
    found = graph(lambda x: tf.cos(tf.sin(tf.exp(x)) + x), TENSOR)
    assert count_activations(found) == Activations(peak_bytes=3 * MEBI, sum_bytes=5 * MEBI)


def test_reshapes_and_constants_are_no_activations() -> None:
    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.identity(tf.reshape(tf.exp(x), [2, -1])) * kernel(2, 1), [-1])

    found = count_activations(graph(function, TENSOR))
    assert found == Activations(peak_bytes=2 * MEBI, sum_bytes=3 * MEBI)


def test_outputs_live_to_the_end() -> None:
    def function(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        first = tf.exp(x)
        return first, tf.sin(tf.cos(first))

    assert count_activations(graph(function, TENSOR)).peak_bytes == 3 * MEBI


def test_an_unread_output_is_not_kept() -> None:
    layer = tf.keras.layers.BatchNormalization()
    image = tf.keras.Input((8, 8, 16))
    model = tf.keras.Model(image, layer(image))
    found = count_activations(freeze(float_core(model, batch_size=1)))
    assert found.sum_bytes == 2 * 8 * 8 * 16 * 4
