"""write_onnx(): a network as an ONNX file, for ONNX Runtime and whatever else reads ONNX."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from segkit import contract
from segkit.errors import EngineUnavailable, ExportError
from segkit.export.segmentation import class_ids
from segkit.models.graph import freeze

__all__ = ["write_onnx"]

# tf2onnx knows 18 too, where a global average pooling becomes a mean that takes its axes as an
# input, with a transpose before it.
OPSET = 17


def write_onnx(model: tf.keras.Model, path: Path) -> None:
    """Writes `path`: `image` uint8 (B, H, W, 3) -> `class_ids`, `confidence` uint8 (B, H, W).

    Args:
        model: float32 RGB 0..255 (B, H, W, 3) -> float32 logits (B, H, W, num_classes).
        path: Ends in .onnx.

    Raises:
        ExportError: The network holds an operation that ONNX has not.
        EngineUnavailable: The extra `onnx` is not installed.
        OSError: The file cannot be written.
    """
    try:
        import onnx
        import tf2onnx
    except ImportError as err:
        raise EngineUnavailable(
            "onnx needs packages that are not installed, to write its files: onnx and tf2onnx",
            expected="those of the extra onnx",
            next_step='pip install -c constraints.txt -e ".[onnx]"',
        ) from err
    function = _segmentation_function(model)
    frozen = freeze(function)
    graph_def = frozen.graph.as_graph_def()
    _give_scalars_an_axis(graph_def)
    names = {tensor.name: name for name, tensor in function.structured_outputs.items()}
    with _only_errors("tensorflow", "tf2onnx"):
        converted, _ = tf2onnx.convert.from_graph_def(
            graph_def,
            name="segkit",
            input_names=list(frozen.inputs),
            output_names=list(frozen.outputs),
            tensors_to_rename={frozen.inputs[0]: contract.IMAGE, **names},
            opset=OPSET,
        )
    _round_scales_up(converted.graph)
    try:
        onnx.checker.check_model(converted, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as err:
        raise ExportError(
            f"the network cannot be converted to ONNX: {str(err).strip().splitlines()[0]}",
            expected=f"operations that opset {OPSET} has, as all networks of segkit do",
            next_step="publish it without onnx, and please report this",
        ) from err
    for tensor in (*converted.graph.input, *converted.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "B"  # tf2onnx calls it unk__123
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(converted.SerializeToString())


def _segmentation_function(model: tf.keras.Model) -> Any:
    """As `segmentation_function`, but for the softmax.

    ONNX Runtime takes longer for a softmax over the second of four axes, where ONNX has the
    classes, than for all convolutions of a DDRNet. The largest probability alone needs none.
    """

    @tf.function(autograph=False)
    def segment(image: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(tf.cast(image, tf.float32), training=False)
        smaller = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
        # A mean, because tf2onnx puts a transpose of the logits before a sum.
        mean = tf.reduce_mean(tf.exp(smaller), axis=-1)
        probability = 1.0 / (logits.shape[-1] * mean)
        confidence = tf.cast(tf.round(probability * 255.0), tf.uint8)
        return {contract.CLASS_IDS: class_ids(logits), contract.CONFIDENCE: confidence}

    spec = tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8, name=contract.IMAGE)
    return segment.get_concrete_function(spec)


def _give_scalars_an_axis(graph_def: Any) -> None:
    """Makes [3.0] of a constant 3.0 that is added to a tensor, as in a hard swish: it is the same.

    Of a scalar, tf2onnx's optimizer of transposes asks for the largest size and dies, and a
    transpose stays before and after every convolution.
    """
    users = defaultdict(set)
    for node in graph_def.node:
        for name in node.input:
            users[name.partition(":")[0]].add(node.op)
    for node in graph_def.node:
        if node.op == "Const" and users[node.name] == {"AddV2"}:
            shape = node.attr["value"].tensor.tensor_shape
            if not shape.dim:
                shape.dim.add(size=1)


def _round_scales_up(graph: Any) -> None:
    """Makes the size of what is resized come out whole.

    With a batch of any size ONNX has factors instead of sizes, and rounds what they give down: the
    float32 below 8/3, times 3, are 7 rows.
    """
    from onnx import numpy_helper

    names = {node.input[2] for node in graph.node if node.op_type == "Resize"}
    for initializer in graph.initializer:
        if initializer.name in names:
            scales = numpy_helper.to_array(initializer)
            above = np.where(scales % 1 > 0, np.nextafter(scales, np.float32(np.inf)), scales)
            initializer.CopyFrom(numpy_helper.from_array(above, initializer.name))


@contextmanager
def _only_errors(*names: str) -> Iterator[None]:
    """Keeps libraries from telling what the user can do nothing about."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
