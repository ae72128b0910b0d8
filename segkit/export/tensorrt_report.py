"""A prediction of how TF-TRT will split a network: which ops, which layers, what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import tensorflow as tf

from segkit.export.tensorrt_ops import NO_OPS, PASSIVE_OPS, remedy
from segkit.export.tensorrt_segments import segment
from segkit.models.graph import InferenceGraph

__all__ = ["RefusedOp", "Segment", "TensorRTReport", "layer_of", "report"]

# Names that Keras's layers give to ops between the layer's name and the op's.
INNER_SCOPES = frozenset(
    {
        "Conv2D",
        "Gelu",
        "Tensordot",
        "batchnorm",
        "depthwise",
        "moments",
        "resize",
        "separable_conv2d",
    }
)
CALLS = ("StatefulPartitionedCall", "PartitionedCall")


@dataclass(frozen=True)
class RefusedOp:
    """An op that TF-TRT does not convert.

    Attributes:
        name: Name of the node.
        op: Its type.
        layer: The layer behind it.
        reason: TF-TRT's own words.
        remedy: What to do about it.
        splits: It stands between ops that convert; otherwise it is at an end of the graph, where
            it costs no split.
    """

    name: str
    op: str
    layer: str
    reason: str
    remedy: str
    splits: bool


@dataclass(frozen=True)
class Segment:
    """A part of the graph that becomes one engine.

    Attributes:
        num_nodes: Number of nodes, constants with them.
        num_ops: Number of ops: nodes but constants.
        first_layer: The layer of its first op, in the order of the graph.
        last_layer: The layer of its last op.
    """

    num_nodes: int
    num_ops: int
    first_layer: str
    last_layer: str


@dataclass(frozen=True)
class TensorRTReport:
    """The prediction for one graph.

    Attributes:
        subject: What was read.
        minimum_segment_size: Nodes that a segment must have to become an engine.
        segments: The engines, the biggest first.
        ops: Op type -> (number of them, of them in engines).
        refused: The ops that do not convert, in the order of the graph, without its inputs.
        too_small: Layers of ops that convert, but whose segments are too small or too many.
    """

    subject: str
    minimum_segment_size: int
    segments: tuple[Segment, ...]
    ops: Mapping[str, tuple[int, int]]
    refused: tuple[RefusedOp, ...]
    too_small: tuple[str, ...]

    @property
    def splitting(self) -> tuple[RefusedOp, ...]:
        """The refused ops that split the graph."""
        return tuple(op for op in self.refused if op.splits)

    @property
    def converted_share(self) -> float:
        """Share of the ops that are in engines, 0..1; constants and inputs do not count."""
        total = sum(count for count, _ in self.ops.values())
        return sum(inside for _, inside in self.ops.values()) / max(total, 1)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        return {
            **asdict(self),
            "ops": {op: {"count": n, "in_engines": m} for op, (n, m) in self.ops.items()},
            "num_segments": len(self.segments),
            "converted_share": self.converted_share,
            "tensorflow": tf.__version__,
            "confirmed_on_gpu": False,
        }


def report(
    graph: InferenceGraph,
    *,
    subject: str,
    minimum_segment_size: int = 3,
    layers: Iterable[str] = (),
) -> TensorRTReport:
    """Asks TF-TRT how it would split a graph.

    Args:
        graph: A frozen graph, see `segkit.models.graph.freeze`.
        subject: What it is, for people.
        minimum_segment_size: As in TF-TRT's Converter.
        layers: Names of the Keras layers, where they are known; guessed from node names otherwise.

    Raises:
        ExportError: TF-TRT cannot be asked.
    """
    segmentation = segment(graph, minimum_segment_size=minimum_segment_size)
    operations = [op for op in graph.graph.get_operations() if op.type not in PASSIVE_OPS]
    layers = frozenset(layers)
    layer = {op.name: layer_of(op.name, layers) for op in operations}
    in_engines = frozenset().union(*segmentation.segments)
    between = _between(operations, segmentation.refused)
    refused = [op for op in operations if op.name in segmentation.refused]
    left = (op for op in operations if op.name not in in_engines | segmentation.refused.keys())
    counts = Counter(op.type for op in operations)
    inside = Counter(op.type for op in operations if op.name in in_engines)
    return TensorRTReport(
        subject=subject,
        minimum_segment_size=minimum_segment_size,
        segments=tuple(
            _segment(nodes, [layer[op.name] for op in operations if op.name in nodes])
            for nodes in segmentation.segments
        ),
        ops={op: (count, inside[op]) for op, count in sorted(counts.items())},
        refused=tuple(
            RefusedOp(
                name=op.name,
                op=op.type,
                layer=layer[op.name],
                reason=segmentation.refused[op.name],
                remedy=remedy(op.type, segmentation.refused[op.name]),
                splits=op.name in between,
            )
            for op in refused
        ),
        too_small=tuple(dict.fromkeys(layer[op.name] for op in left if op.type not in NO_OPS)),
    )


def layer_of(node_name: str, layers: Iterable[str] = ()) -> str:
    """The layer behind a node "<calls>/<model>/<layer>/<op>"; both layer and op may hold slashes.

    Args:
        node_name: Name of the node.
        layers: Names of the layers, where they are known.
    """
    path = node_name.split("/")
    while len(path) > 1 and path[0].startswith(CALLS):
        path = path[1:]
    for stop in range(len(path), 1, -1):
        if "/".join(path[1:stop]) in layers:
            return "/".join(path[1:stop])
    if len(path) < 3:
        return path[0]
    stop = len(path) - 1
    if stop > 2 and path[stop - 1] in INNER_SCOPES and path[stop - 1] != path[-1]:
        stop -= 1
    return "/".join(path[1:stop])


def _segment(nodes: frozenset[str], layers: Sequence[str]) -> Segment:
    return Segment(
        num_nodes=len(nodes),
        num_ops=len(layers),
        first_layer=layers[0] if layers else "",
        last_layer=layers[-1] if layers else "",
    )


def _between(operations: Sequence[tf.Operation], refused: Iterable[str]) -> set[str]:
    """Names of the ops with ops that convert both somewhere before and somewhere after them."""
    refused = set(refused)
    working = [op for op in operations if op.name not in refused and op.type not in NO_OPS]
    after = _reached(working, lambda op: (user for out in op.outputs for user in out.consumers()))
    before = _reached(working, lambda op: (tensor.op for tensor in op.inputs))
    return after & before


def _reached(
    starts: Sequence[tf.Operation], neighbours: Callable[[tf.Operation], Iterable[tf.Operation]]
) -> set[str]:
    names: set[str] = set()
    stack = list(starts)
    while stack:
        for op in neighbours(stack.pop()):
            if op.name not in names:
                names.add(op.name)
                stack.append(op)
    return names
