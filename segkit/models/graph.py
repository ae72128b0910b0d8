"""Inference graphs: a network, or a signature of a SavedModel, as one flat graph of constants."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.framework import convert_to_constants
from tensorflow.python.grappler import tf_optimizer
from tensorflow.python.training import saver

from segkit.errors import ExportError

__all__ = ["InferenceGraph", "float_core", "freeze", "load_signature"]

# The passes that TF-TRT's converter runs before its own (trt_convert.py of TensorFlow 2.15), but
# for "layout", which moves to NCHW on a GPU. Grappler's remapper stays off there and here: it
# would fuse convolutions into ops that TensorRT's converter does not know.
GRAPPLER_PASSES = (
    "pruning",
    "debug_stripper",
    "dependency",
    "constfold",
    "common_subgraph_elimination",
)


class InferenceGraph(NamedTuple):
    """A flat graph without variables or calls.

    Attributes:
        graph: Its operations have shapes; an unknown batch size is None.
        inputs: Names of the input tensors, "name:0".
        outputs: Names of the output tensors.
    """

    graph: tf.Graph
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def float_core(model: tf.keras.Model, *, batch_size: int | None = None) -> Any:
    """The part of an export that TensorRT is to take: float32 image in, float32 logits out.

    Args:
        model: float32 RGB 0..255 (B, H, W, 3) -> float32 logits (B, H, W, num_classes).
        batch_size: A fixed batch size; any if None.

    Returns:
        A concrete function.
    """
    image = tf.TensorSpec([batch_size, *model.input_shape[1:]], tf.float32, name="image")

    @tf.function(autograph=False)
    def logits(image: tf.Tensor) -> tf.Tensor:
        return model(image, training=False)

    return logits.get_concrete_function(image)


def load_signature(saved_model_dir: Path, signature: str) -> Any:
    """Loads one signature of a SavedModel as a concrete function.

    Raises:
        ExportError: There is no SavedModel, or it has no such signature.
    """
    try:
        loaded = tf.saved_model.load(str(saved_model_dir), tags=["serve"])
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as err:
        raise ExportError(
            f"'{saved_model_dir}' cannot be loaded as a SavedModel: {err}",
            expected="the folder of a SavedModel with the tag 'serve', such as "
            "checkpoints/export_path/1",
        ) from err
    if signature not in loaded.signatures:
        raise ExportError(
            f"'{saved_model_dir}' has no signature '{signature}'",
            expected="one of " + ", ".join(sorted(loaded.signatures)),
        )
    function = loaded.signatures[signature]
    function.saved_model = loaded  # a function holds its variables by weak references alone
    return function


def freeze(function: Any) -> InferenceGraph:
    """Makes variables constants, inlines calls and folds constants, as TF-TRT's converter does.

    Args:
        function: A concrete function.
    """
    frozen = convert_to_constants.convert_variables_to_constants_v2(function)
    graph_def = frozen.graph.as_graph_def()
    for node in graph_def.node:
        node.device = ""
    meta_graph = saver.export_meta_graph(graph_def=graph_def, graph=frozen.graph)
    ends = meta_graph_pb2.CollectionDef()
    ends.node_list.value.extend(tensor.name for tensor in (*frozen.inputs, *frozen.outputs))
    meta_graph.collection_def["train_op"].CopyFrom(ends)  # where Grappler looks for what to keep

    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1  # small graphs too
    options.remapping = options.OFF
    options.meta_optimizer_iterations = options.ONE
    options.optimizers.extend(GRAPPLER_PASSES)
    optimized = tf_optimizer.OptimizeGraph(config, meta_graph)

    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(optimized, name="")
    return InferenceGraph(
        graph,
        tuple(tensor.name for tensor in frozen.inputs),
        tuple(tensor.name for tensor in frozen.outputs),
    )
