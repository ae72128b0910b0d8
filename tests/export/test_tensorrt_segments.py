"""What TF-TRT of the pinned TensorFlow decides, as `segment` reads it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from segkit.errors import ExportError
from segkit.export import tensorrt_segments
from segkit.export.tensorrt_segments import Segmentation, segment
from segkit.models import NETWORKS, build_model
from segkit.models.graph import InferenceGraph, float_core, freeze

CONVERTS = "converts"


def _graph(function: Any, *, channels: int = 4, dtype: Any = tf.float32) -> InferenceGraph:
    image = tf.TensorSpec([None, 16, 16, channels], dtype, name="image")
    return freeze(tf.function(function).get_concrete_function(image))


def _weights(*shape: int) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, [1, 2])


# Name of an op -> it, from a float image; whether it converts, or a part of TF-TRT's reason.
OPS = {
    # The forms that the networks built with resize="matmul" are made of.
    "conv": (lambda x, n: tf.nn.conv2d(x, _weights(3, 3, 4, 5), 1, "SAME", name=n), CONVERTS),
    "conv_dilated": (
        lambda x, n: tf.nn.conv2d(x, _weights(3, 3, 4, 5), 1, "SAME", dilations=2, name=n),
        CONVERTS,
    ),
    "depthwise_dilated": (
        lambda x, n: tf.raw_ops.DepthwiseConv2dNative(
            input=x,
            filter=_weights(3, 3, 4, 1),
            strides=[1, 1, 1, 1],
            padding="SAME",
            dilations=[1, 2, 2, 1],
            name=n,
        ),
        CONVERTS,
    ),
    "matmul_constant_left": (lambda x, n: tf.matmul(_weights(8, 16), x, name=n), CONVERTS),
    "matmul_constant_right": (lambda x, n: tf.matmul(x, _weights(4, 9), name=n), CONVERTS),
    "reshape": (lambda x, n: tf.reshape(x, [-1, 16, 64], name=n), CONVERTS),
    "pad": (lambda x, n: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], name=n), CONVERTS),
    "average": (lambda x, n: tf.nn.avg_pool2d(x, 5, 2, "SAME", name=n), CONVERTS),
    "mean": (lambda x, n: tf.reduce_mean(x, [1, 2], keepdims=True, name=n), CONVERTS),
    "relu6": (lambda x, n: tf.nn.relu6(x, name=n), CONVERTS),
    "sigmoid": (lambda x, n: tf.sigmoid(x, name=n), CONVERTS),
    # Others that the remedies speak of.
    "reshape_computed": (
        lambda x, n: tf.reshape(x, tf.stack([tf.shape(x)[0], 256, 4]), name=n),
        CONVERTS,
    ),
    "argmax_int32": (lambda x, n: tf.argmax(x, -1, output_type=tf.int32, name=n), CONVERTS),
    "aligned": (
        lambda x, n: tf.raw_ops.ResizeBilinear(images=x, size=[9, 9], align_corners=True, name=n),
        CONVERTS,
    ),
    "nearest": (
        lambda x, n: tf.raw_ops.ResizeNearestNeighbor(images=x, size=[9, 9], name=n),
        CONVERTS,
    ),
    "half_pixel": (
        lambda x, n: tf.raw_ops.ResizeBilinear(
            images=x, size=[9, 9], half_pixel_centers=True, name=n
        ),
        "align_corners=False",
    ),
    "argmax_int64": (lambda x, n: tf.argmax(x, -1, name=n), "int64 is not supported"),
    "to_uint8": (lambda x, n: tf.cast(x, tf.uint8, name=n), "uint8"),
    "ensure_shape": (
        lambda x, n: tf.ensure_shape(x, [None, 16, 16, 4], name=n),
        "Op type EnsureShape is not supported",
    ),
    "space_to_batch": (
        lambda x, n: tf.raw_ops.SpaceToBatchND(
            input=x, block_shape=[2, 2], paddings=[[0, 0], [0, 0]], name=n
        ),
        "Op type SpaceToBatchND is not supported",
    ),
    "conv_padded": (
        lambda x, n: tf.nn.conv2d(
            x, _weights(3, 3, 4, 5), 1, [[0, 0], [1, 1], [1, 1], [0, 0]], name=n
        ),
        "only VALID and SAME are supported",
    ),
    "conv_of_computed": (
        lambda x, n: tf.nn.conv2d(
            x, tf.reshape(tf.reduce_mean(x, [0, 1, 2]), [1, 1, 4, 1]), 1, "SAME", name=n
        ),
        "must be a constant",
    ),
    "transposed_any_batch": (
        lambda x, n: tf.nn.conv2d_transpose(
            x, _weights(3, 3, 4, 4), tf.stack([tf.shape(x)[0], 32, 32, 4]), 2, "SAME", name=n
        ),
        "must be a constant",
    ),
    "pad_three_axes": (
        lambda x, n: tf.pad(x, [[0, 0], [1, 1], [1, 1], [1, 1]], name=n),
        "does not support padding on > 2",
    ),
    "mirror": (
        lambda x, n: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="REFLECT", name=n),
        "Op type MirrorPad is not supported",
    ),
    "einsum_ellipsis": (
        lambda x, n: tf.raw_ops.Einsum(
            inputs=[x, _weights(4, 3)], equation="...c,cd->...d", name=n
        ),
        "No conversion for einsum equation",
    ),
}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    def function(image: tf.Tensor) -> list[tf.Tensor]:
        x = tf.nn.relu(image)
        return [tf.identity(op(x, name)) for name, (op, _) in OPS.items()]

    graph = _graph(function)
    segmentation = segment(graph, minimum_segment_size=1)
    names = {op.name for op in graph.graph.get_operations()}
    return {name: segmentation.refused.get(name, CONVERTS) for name in OPS if name in names}


@pytest.mark.parametrize("name", OPS)
def test_which_ops_convert(verdicts: dict[str, str], name: str) -> None:
    assert OPS[name][1] in verdicts[name]


def _one_engine(graph: InferenceGraph, segmentation: Segmentation) -> bool:
    operations = {op.name for op in graph.graph.get_operations() if op.type != "Const"}
    ends = {name.split(":")[0] for name in (*graph.inputs, *graph.outputs)}
    return len(segmentation.segments) == 1 and operations - segmentation.segments[0] == ends


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_built_for_tensorrt_is_one_engine(name: str) -> None:
    model = build_model(name, (64, 64), 5, resize="matmul")
    graph = freeze(float_core(model))
    assert _one_engine(graph, segment(graph))


def test_a_bilinear_resize_cuts_the_network() -> None:
    model = build_model("ddrnet23_slim", (64, 64), 5, resize="bilinear")
    graph = freeze(float_core(model))
    segmentation = segment(graph)
    assert len(segmentation.segments) > 1
    resizes = {op.name for op in graph.graph.get_operations() if op.type == "ResizeBilinear"}
    assert resizes and resizes < segmentation.refused.keys()


def _two_parts(image: tf.Tensor) -> tf.Tensor:
    x = tf.nn.relu(tf.sigmoid(tf.tanh(tf.nn.relu(image))))
    x = tf.ensure_shape(x, [None, 16, 16, 4], name="wall")
    return tf.identity(tf.nn.relu(tf.sigmoid(x)))


def test_the_biggest_segment_is_first() -> None:
    segments = segment(_graph(_two_parts), minimum_segment_size=1).segments
    assert [len(names) for names in segments] == [4, 2]
    assert not segments[0] & segments[1]


def test_segments_below_the_minimum_size_are_left_out() -> None:
    segmentation = segment(_graph(_two_parts), minimum_segment_size=3)
    assert [len(names) for names in segmentation.segments] == [4]
    assert "wall" in segmentation.refused


def test_two_ways_round_a_refused_op_do_not_close_a_circle() -> None:
    def function(image: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu(image, name="start")
        y = tf.sigmoid(x, name="beside")
        return tf.identity(
            tf.add(y, tf.ensure_shape(x, [None, 16, 16, 4], name="wall"), name="sum")
        )

    segments = segment(_graph(function), minimum_segment_size=1).segments
    assert {"beside", "sum"} in segments  # one engine with "start" too would wait for itself
    assert {"start"} in segments


def test_the_limit_of_the_number_of_engines_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_TRT_MAX_ALLOWED_ENGINES", "1")
    segments = segment(_graph(_two_parts), minimum_segment_size=1).segments
    assert [len(names) for names in segments] == [4]


def test_a_tensorflow_without_tf_trt_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tensorrt_segments._pywrap_py_utils, "get_linked_tensorrt_version", lambda: (0, 0, 0)
    )
    with pytest.raises(ExportError, match="built without TF-TRT") as caught:
        segment(_graph(tf.nn.relu))
    assert "tensorflow==2.15.1" in caught.value.expected


def test_a_crash_of_the_segmenter_is_a_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\necho out of luck >&2\nexit 9\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    with pytest.raises(ExportError, match=r"(?s)status 9.*out of luck"):
        segment(_graph(tf.nn.relu))


def test_a_log_of_another_form_is_not_taken_for_a_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def silent(source: Path, target: Path, minimum_segment_size: int) -> str:
        target.write_bytes(b"")
        return "TF-TRT has learnt to speak otherwise"

    monkeypatch.setattr(tensorrt_segments, "_run_pass", silent)
    with pytest.raises(ExportError, match="does not name the ops"):
        segment(_graph(tf.nn.relu))
