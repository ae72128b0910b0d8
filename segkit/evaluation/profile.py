"""What a network costs: parameters, multiply-accumulates, activation memory, latency.

Everything but the latency is counted on the inference graph of batch size 1, where every tensor
has a known shape; nothing is run (docs/profile.md says what each figure means).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import tensorflow as tf

from segkit.evaluation.latency import Latency
from segkit.models.graph import InferenceGraph, float_core, freeze

__all__ = [
    "Activations",
    "Macs",
    "Parameters",
    "Profile",
    "count_activations",
    "count_macs",
    "count_parameters",
    "profile_model",
    "uncounted_ops",
]


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Numbers in the weights.

    Args:
        trainable: What papers count.
        non_trainable: Moving mean and variance of batch normalisations.
    """

    trainable: int
    non_trainable: int


@dataclass(frozen=True, kw_only=True)
class Macs:
    """Multiply-accumulates of one image; a "FLOP" of most papers is one of them, of others half.

    Args:
        convolution: Of Conv2D and its transpose, 1x1 convolutions included.
        depthwise: Of depthwise convolutions.
        matmul: Of matrix products.
    """

    convolution: int
    depthwise: int
    matmul: int

    @property
    def total(self) -> int:
        """All kinds together."""
        return self.convolution + self.depthwise + self.matmul


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Memory of what the ops write, for one image; weights and work space are not in it.

    Args:
        peak_bytes: The most that is alive at one moment.
        sum_bytes: Of all together, as if nothing were ever freed.
    """

    peak_bytes: int
    sum_bytes: int


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Everything about one network at one image size.

    Args:
        network: Its name.
        image_size: Height and width, pixels.
        num_classes: Number of classes, with the background.
        precision: Of weights and activations.
        parameters: See Parameters.
        macs: See Macs.
        activations: See Activations.
        uncounted: Op -> how many of them are in the graph and not in `macs`.
        latencies: One row for each engine and batch size.
    """

    network: str
    image_size: tuple[int, int]
    num_classes: int
    precision: str
    parameters: Parameters
    macs: Macs
    activations: Activations
    uncounted: Mapping[str, int]
    latencies: tuple[Latency, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as what json.dumps takes, exact, with the total of the MACs."""
        record = asdict(self)
        record["image_size"] = list(self.image_size)
        record["macs"]["total"] = self.macs.total
        record["latencies"] = [asdict(row) for row in self.latencies]
        return record


def profile_model(model: tf.keras.Model) -> Profile:
    """Counts all that can be counted without running the model.

    Args:
        model: float32 (B, H, W, 3) -> float32 logits (B, H, W, num_classes), H and W fixed.
    """
    graph = freeze(float_core(model, batch_size=1))
    height, width = model.input_shape[1:3]
    return Profile(
        network=model.name,
        image_size=(height, width),
        num_classes=model.output_shape[-1],
        precision="float32",
        parameters=count_parameters(model),
        macs=count_macs(graph),
        activations=count_activations(graph),
        uncounted=uncounted_ops(graph),
    )


# === Counts ===


def count_parameters(model: tf.keras.Model) -> Parameters:
    """Counts the numbers in a model's weights."""

    def numbers(weights: Any) -> int:
        return sum(math.prod(weight.shape) for weight in weights)

    return Parameters(
        trainable=numbers(model.trainable_weights),
        non_trainable=numbers(model.non_trainable_weights),
    )


def count_macs(graph: InferenceGraph) -> Macs:
    """Counts multiply-accumulates, of the ops as they run.

    Products with the zeros of a padding count, as do those that Keras's dilated convolutions add
    to fill their blocks (SpaceToBatchND). See `uncounted_ops` for what is left out.

    Args:
        graph: All shapes known, as of `float_core(model, batch_size=1)`.

    Raises:
        ValueError: A shape is unknown.
    """
    counts: Counter[str] = Counter()
    for op in graph.graph.get_operations():
        if _is_counted(op):
            for tensor in op.inputs:
                _elements(tensor)  # raises where a shape is unknown
            kind, count = _COUNTED[op.type]
            counts[kind] += count(op)
    return Macs(**{kind: counts[kind] for kind in Macs.__dataclass_fields__})


def uncounted_ops(graph: InferenceGraph) -> dict[str, int]:
    """Op -> how many of them `count_macs` leaves out, by name.

    They add, compare or move numbers: element-wise ops, normalisation, pooling, the resize of
    tf.image.resize. Anything else in this list would be a gap in the count.
    """
    types = Counter(
        op.type
        for op in graph.graph.get_operations()
        if op.type not in _NO_WORK and not _is_counted(op)
    )
    return dict(sorted(types.items()))


def count_activations(graph: InferenceGraph) -> Activations:
    """Adds up the tensors that ops write, running them one after another in the graph's order.

    A tensor is alive from the op that writes it to the last that reads it; the image counts too,
    and the graph's outputs live to the end. Nothing is computed in place: an op's inputs and
    outputs are alive together. Identity, reshapes and biases write nothing new. A runtime that
    computes activations in place or fuses ops needs less, one that runs branches at once more.

    Args:
        graph: All shapes known, as of `float_core(model, batch_size=1)`.

    Raises:
        ValueError: A shape is unknown.
    """
    ops = graph.graph.get_operations()  # in topological order, as import_graph_def adds them
    born: dict[str, int] = {}
    last_use: dict[str, int] = {}
    size: dict[str, int] = {}
    for step, op in enumerate(ops):
        # Only what is read is a tensor to keep: batch normalisation has five more outputs.
        for tensor in op.inputs:
            source = _written(tensor)
            if source.op.type != "Const":
                last_use[source.name] = step
                size[source.name] = _elements(source) * source.dtype.size
        born.update((tensor.name, step) for tensor in op.outputs)
    for name in graph.outputs:
        source = _written(graph.graph.get_tensor_by_name(name))
        last_use[source.name] = len(ops) - 1
        size[source.name] = _elements(source) * source.dtype.size

    change: Counter[int] = Counter()
    for name, nbytes in size.items():
        change[born[name]] += nbytes
        change[last_use[name] + 1] -= nbytes
    alive = peak = 0
    for step in sorted(change):
        alive += change[step]
        peak = max(peak, alive)
    return Activations(peak_bytes=peak, sum_bytes=sum(size.values()))


def _convolution(op: tf.Operation) -> int:
    height, width, channels, _ = op.inputs[1].shape  # channels of one group, if there are groups
    return int(_elements(op.outputs[0]) * height * width * channels)


def _transposed_convolution(op: tf.Operation) -> int:
    _, filter_, image = op.inputs
    height, width, channels, _ = filter_.shape  # every number of the image meets all of these
    return int(_elements(image) * height * width * channels)


def _depthwise(op: tf.Operation) -> int:
    height, width, *_ = op.inputs[1].shape
    return int(_elements(op.outputs[0]) * height * width)


def _matmul(op: tf.Operation) -> int:
    transposed = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
    return int(_elements(op.outputs[0]) * op.inputs[0].shape[-2 if transposed else -1])


def _einsum(op: tf.Operation) -> int:
    operands, _, result = op.get_attr("equation").decode().partition("->")
    sizes: dict[str, int] = {}
    for labels, operand in zip(operands.split(","), op.inputs, strict=True):
        before, _, after = labels.partition("...")
        sizes.update(zip(before, operand.shape, strict=False))
        sizes.update(zip(reversed(after), reversed(operand.shape), strict=False))
    summed = math.prod(size for label, size in sizes.items() if label not in result)
    return _elements(op.outputs[0]) * summed


# Op -> its kind, and how to count it.
_COUNTED: Mapping[str, tuple[str, Callable[[tf.Operation], int]]] = {
    "Conv2D": ("convolution", _convolution),
    "Conv2DBackpropInput": ("convolution", _transposed_convolution),
    "DepthwiseConv2dNative": ("depthwise", _depthwise),
    "MatMul": ("matmul", _matmul),
    "BatchMatMul": ("matmul", _matmul),
    "BatchMatMulV2": ("matmul", _matmul),
    "BatchMatMulV3": ("matmul", _matmul),
    "Einsum": ("matmul", _einsum),
}
# Every runtime adds a bias where the convolution wrote; Grappler even takes out one of zeros, and a
# new network shall count as a trained one does.
_SAME_MEMORY = frozenset(
    {"BiasAdd", "EnsureShape", "ExpandDims", "Identity", "Reshape", "Squeeze", "StopGradient"}
)
_NO_WORK = _SAME_MEMORY | {"Const", "NoOp", "Placeholder"}


def _is_counted(op: tf.Operation) -> bool:
    # An Einsum of one operand permutes or sums.
    return op.type in _COUNTED and (op.type != "Einsum" or len(op.inputs) == 2)


def _written(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor whose memory this one shares."""
    while tensor.op.type in _SAME_MEMORY:
        tensor = tensor.op.inputs[0]
    return tensor


def _elements(tensor: tf.Tensor) -> int:
    elements = tensor.shape.num_elements()
    if elements is None:
        raise ValueError(
            f"'{tensor.name}' has the shape {tensor.shape}; give the graph a batch size and the "
            "model an image size"
        )
    return int(elements)
