"""TensorFlowEngine: a SavedModel in a session, as TensorFlow Serving runs it.

Sessions, because a request that fails then carries the very text of TensorFlow Serving, which
`tf.saved_model.load` words otherwise. TensorFlow is pinned, so two of its private names are used.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.saved_model import loader_impl

from segkit.engines.base import (
    Array,
    Code,
    SignatureSpec,
    StatusError,
    TensorSpec,
    read_metadata,
)
from segkit.engines.cpu import require_bfloat16
from segkit.engines.variants import Variant
from segkit.errors import ExportError

__all__ = ["TensorFlowEngine"]

INIT_SIGNATURE = "__saved_model_init_op"
TENSORRT_OPS = frozenset({"TRTEngineOp", "CreateTRTResourceHandle"})
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


@dataclass(frozen=True)
class _Endpoint:
    """The graph's ends of one signature: TF_Output handles by input and output name."""

    feeds: Mapping[str, Any]
    fetches: Mapping[str, Any]
    unchecked: frozenset[str]  # inputs whose shape nothing in the graph checks


class TensorFlowEngine:
    """One SavedModel in a TensorFlow session, see `segkit.engines.Engine`.

    The one difference from TensorFlow Serving: an input of the wrong rank, where the graph itself
    has no check, is refused. There it aborts the whole process.

    Args:
        version_dir: The folder that holds saved_model.pb.
        variant: bfloat16 lets TensorFlow compute in it wherever it holds that to be safe, as
            tensorflow/serving does with --mixed_precision=bfloat16; else the graph's own precision.
        session_config: tensorflow.ConfigProto of the session; by default GPU memory grows.

    Raises:
        ExportError: It is no SavedModel, is damaged, or needs a processor that is not here.
        ContractMismatch: Its segkit.json cannot be read.
    """

    def __init__(self, version_dir: Path, variant: Variant, session_config: Any = None) -> None:
        self.metadata = read_metadata(version_dir)
        _refuse_tensorrt_without_gpu(version_dir)
        graph = tf.Graph()
        config = tf.compat.v1.ConfigProto()
        config.gpu_options.allow_growth = True
        if session_config is not None:
            config.CopyFrom(session_config)
        if variant.name.precision == "bfloat16":
            require_bfloat16(str(variant.name))
            rewrite_options = config.graph_options.rewrite_options
            rewrite_options.auto_mixed_precision_onednn_bfloat16 = rewrite_options.ON
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            loader = loader_impl.SavedModelLoader(str(version_dir))
            with graph.as_default():
                model = loader.load(self._session, [tf.saved_model.SERVING])
        except (tf.errors.OpError, OSError, RuntimeError, ValueError) as err:
            self._session.close()
            raise _cannot_load(version_dir, err) from err
        signatures = {k: v for k, v in model.signature_def.items() if k != INIT_SIGNATURE}
        self.signatures = {name: _spec(signature) for name, signature in signatures.items()}
        self._endpoints = {
            name: _endpoint(signature, graph, model.graph_def)
            for name, signature in signatures.items()
        }

    def run(
        self,
        signature: str,
        inputs: Mapping[str, Array],
        *,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Runs a signature, see `Engine.run`. The session is safe for threads."""
        endpoint = self._endpoints[signature]
        names = list(endpoint.fetches) if outputs is None else list(outputs)
        for name in endpoint.unchecked:
            _check_rank(name, self.signatures[signature].inputs[name], inputs[name])
        feeds = {handle: inputs[name] for name, handle in endpoint.feeds.items()}
        fetches = [endpoint.fetches[name] for name in names]
        options = None if timeout_s is None else _run_options(timeout_s)
        try:
            # Session.run would first compare shapes in Python and raise texts of its own.
            results = pywrap_tf_session.TF_SessionRun_wrapper(
                self._session._session, options, feeds, fetches, [], None
            )
        except tf.errors.OpError as err:
            raise StatusError(Code(err.error_code), err.message) from err
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)
        return dict(zip(names, results, strict=True))

    def close(self) -> None:
        """Closes the session and frees the graph."""
        self._session.close()
        del self._session, self._endpoints
        # A graph's Python objects are a cycle round some 25 MB of C++, which the collector cannot
        # see: a server would keep that of every version it has replaced.
        gc.collect()


def _run_options(timeout_s: float) -> Any:
    options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(timeout_s * 1000)))
    return pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())


def _cannot_load(version_dir: Path, err: Exception) -> ExportError:
    return ExportError(
        f"the version '{version_dir}' cannot be loaded: {getattr(err, 'message', err)}",
        expected="a SavedModel with the tag 'serve', complete and undamaged",
        next_step="publish the model again by `python -m segkit export`",
    )


def _refuse_tensorrt_without_gpu(version_dir: Path) -> None:
    """Says in a sentence what TensorFlow says in a page of registered kernels."""
    try:
        saved_model = loader_impl.parse_saved_model(str(version_dir))
    except (OSError, DecodeError) as err:
        raise _cannot_load(version_dir, err) from err
    ops = {
        node.op
        for meta_graph in saved_model.meta_graphs
        for nodes in (
            meta_graph.graph_def.node,
            *(function.node_def for function in meta_graph.graph_def.library.function),
        )
        for node in nodes
    }
    if ops & TENSORRT_OPS and not tf.config.list_physical_devices("GPU"):
        raise ExportError(
            f"the version '{version_dir}' holds TensorRT engines, and this machine has no GPU",
            expected="a GPU with TensorRT 8.6.1, as in tensorflow/serving:2.15.1-gpu",
            next_step="serve the SavedModel it was converted from, or serve it on the GPU machine",
        )


def _spec(signature: Any) -> SignatureSpec:
    return SignatureSpec(
        {name: _tensor_spec(info) for name, info in signature.inputs.items()},
        {name: _tensor_spec(info) for name, info in signature.outputs.items()},
    )


def _tensor_spec(info: Any) -> TensorSpec:
    shape = tf.TensorShape(info.tensor_shape)
    return TensorSpec(
        tf.dtypes.as_dtype(info.dtype).name,
        None if shape.rank is None else tuple(shape.as_list()),
    )


def _endpoint(signature: Any, graph: tf.Graph, graph_def: Any) -> _Endpoint:
    def handles(tensors: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: graph.get_tensor_by_name(info.name)._as_tf_output()
            for name, info in tensors.items()
        }

    functions = {function.signature.name: function for function in graph_def.library.function}
    unchecked = frozenset(
        name
        for name, info in signature.inputs.items()
        if not _shape_is_checked(info.name.partition(":")[0], graph_def.node, functions)
    )
    return _Endpoint(handles(signature.inputs), handles(signature.outputs), unchecked)


def _shape_is_checked(tensor: str, nodes: Iterable[Any], functions: Mapping[str, Any]) -> bool:
    """Whether a tensor reaches nothing but tf.ensure_shape, through any number of calls."""
    uses = [
        (node, position)
        for node in nodes
        for position, source in enumerate(node.input)
        if source.partition(":")[0] == tensor
    ]

    def checks(node: Any, position: int) -> bool:
        if node.op in CALLS:
            called = functions[node.attr["f"].func.name]
            argument = called.signature.input_arg[position].name
            return _shape_is_checked(argument, called.node_def, functions)
        return bool(node.op == "EnsureShape")

    return bool(uses) and all(checks(node, position) for node, position in uses)


def _check_rank(name: str, spec: TensorSpec, value: Array) -> None:
    if spec.shape is not None and np.ndim(value) != len(spec.shape):
        expected = ",".join("?" if size is None else str(size) for size in spec.shape)
        given = ",".join(map(str, np.shape(value)))
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"Shape of tensor {name} [{given}] is not compatible with expected shape [{expected}].",
        )
