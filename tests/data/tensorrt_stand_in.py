"""Helper: TF-TRT's converter on a machine without TensorRT.

It is TensorFlow's own `Converter`, with its own order of calls, checks of arguments and refusals,
and TF-TRT's own pass over the graph. Replaced is only what TensorRT or a GPU would do:

- an engine runs its native segment, and where it may not be built at run time only if its file was
  loaded under its name: then it is found in a table, as TensorRT's engines are in a cache;
- the files of the engines, the calibration tables, the versions of the libraries;
- what TensorRT's op makes of its inputs: shapes that are not the graph's, of which it would collect
  no profile, and calibration batches of two sizes, which would end the process, are refused.

A second load of engines whose first is still there fails, as it does with TensorRT.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, graph_pb2
from tensorflow.python.compiler.tensorrt import trt_convert

from segkit.export import tensorrt_preflight

MACHINE = {
    "tensorrt": "8.6.1",
    "cuda": "12.2",
    "cudnn": "8",
    "gpu": "NVIDIA Stand-In",
    "compute_capability": "8.6",
}
ENGINE, LOADED = b"an engine", "loaded"
GPU = "/job:localhost/replica:0/task:0/device:GPU:0"

_graph_function = trt_convert.wrap_function.function_from_graph_def
_zeros_on_a_gpu = types.SimpleNamespace(zeros=lambda shape: types.SimpleNamespace(device=GPU))


class StandIn(trt_convert.TrtGraphConverterV2):  # type: ignore[misc]
    """What the tests ask of it besides: the arguments it was made with, and what it was fed.

    Attributes:
        last: The one made last.
    """

    last: ClassVar[StandIn]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.made_with = {**dict(enumerate(args)), **kwargs}
        self.calls: list[str] = []
        self.fed: list[Any] = []
        self.calibrated_with: list[Any] = []
        self.save_flags: Mapping[str, Any] = {}
        StandIn.last = self
        super().__init__(*args, **kwargs)

    def convert(self, calibration_input_fn: Any = None) -> Any:
        self.calls.append("convert")
        if calibration_input_fn is not None:
            calibration_input_fn = _noting(calibration_input_fn, self.calibrated_with, _one_size)
        return super().convert(calibration_input_fn)

    def build(self, input_fn: Any) -> None:
        self.calls.append("build")
        super().build(input_fn and _noting(input_fn, self.fed, self._check_shape))
        _Engines.built = True

    def _check_shape(self, batch: Any, earlier: list[Any]) -> None:
        (wanted,) = (tensor.shape for tensor in self._converted_func.inputs)
        if not wanted.is_compatible_with(batch[0].shape):
            message = f"Input shapes do not match input partial shapes: {batch[0].shape}"
            raise tf.errors.InvalidArgumentError(None, None, message)

    def save(self, output_saved_model_dir: str, **kwargs: Any) -> None:
        self.calls.append("save")
        self.save_flags = kwargs
        super().save(output_saved_model_dir, **kwargs)

    def summary(self, **kwargs: Any) -> None:
        self.calls.append("summary")
        runnable = getattr(self, "_converted_func", None)
        if runnable is None:
            return super().summary(**kwargs)
        try:
            with pytest.MonkeyPatch.context() as patch:
                plain = types.SimpleNamespace(function_from_graph_def=_graph_function)
                patch.setattr(trt_convert, "wrap_function", plain)
                self._converted_func = trt_convert._construct_function_from_graph_def(
                    runnable, self._converted_graph_def
                )
                super().summary(**kwargs)
        finally:
            self._converted_func = runnable


class _Engines:
    """Stands in for gen_trt_ops: the ops that write and read engines."""

    built = False
    size = len(ENGINE)

    @classmethod
    def serialize_trt_resource(
        cls,
        resource_name: str,
        filename: str,
        delete_resource: bool,
        save_gpu_specific_engines: bool,
    ) -> None:
        assert delete_resource and save_gpu_specific_engines
        if not cls.built:
            raise tf.errors.NotFoundError(None, None, f"no cache {resource_name}")
        Path(filename).write_bytes(ENGINE[: cls.size])

    @staticmethod
    def get_calibration_data_op(resource_name: str) -> tf.Tensor:
        return tf.constant(b"a calibration table")


class _EngineResource(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]
    """Stands in for _TRTEngineResource: a table in place of the engine cache."""

    def __init__(self, resource_name: str, filename: str, maximum_cached_engines: int) -> None:
        super().__init__()
        self._name = resource_name
        self._filename = self._track_trackable(
            tf.saved_model.Asset(filename), "_serialized_trt_resource_filename"
        )

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.MutableHashTableV2(
            key_dtype=tf.string, value_dtype=tf.int64, shared_name=self._name
        )

    def _initialize(self) -> None:
        table = self.resource_handle
        empty = tf.raw_ops.LookupTableSizeV2(table_handle=table)
        with tf.control_dependencies(
            [
                tf.debugging.assert_equal(
                    empty, tf.constant(0, tf.int64), "Expect engine cache to be"
                )
            ]
        ):
            tf.raw_ops.LookupTableInsertV2(
                table_handle=table,
                keys=tf.constant([LOADED]),
                values=[_length(tf.io.read_file(self._filename.asset_path))],
            )

    def _destroy_resource(self) -> None:
        tf.raw_ops.DestroyResourceOp(resource=self._create_resource(), ignore_lookup_error=True)


def install_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this a machine with TensorRT and a GPU, as far as the converter can tell."""
    monkeypatch.setattr(tf.experimental.tensorrt, "Converter", StandIn)
    monkeypatch.setattr(trt_convert, "_check_trt_version_compatibility", lambda: None)
    monkeypatch.setattr(trt_convert, "array_ops", _zeros_on_a_gpu)
    runnable = types.SimpleNamespace(
        function_from_graph_def=lambda graph, *rest: _graph_function(_runnable(graph), *rest)
    )
    monkeypatch.setattr(trt_convert, "wrap_function", runnable)
    monkeypatch.setattr(trt_convert, "gen_trt_ops", _Engines)
    monkeypatch.setattr(trt_convert, "_TRTEngineResource", _EngineResource)
    monkeypatch.setattr(_Engines, "built", False)
    monkeypatch.setattr(_Engines, "size", len(ENGINE))
    monkeypatch.setattr(
        tensorrt_preflight, "preflight", lambda: tensorrt_preflight.Preflight(machine=MACHINE)
    )


def lose_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of engines come out empty, as they do where TensorRT built none."""
    monkeypatch.setattr(_Engines, "size", 0)


def _noting(
    input_fn: Callable[[], Iterable[Any]],
    notes: list[Any],
    check: Callable[[Any, list[Any]], None],
) -> Callable[[], Iterator[Any]]:
    def noting() -> Iterator[Any]:
        for batch in input_fn():
            check(batch, notes)
            notes.append(batch)
            yield batch

    return noting


def _one_size(batch: Any, earlier: list[Any]) -> None:
    if earlier and earlier[0][0].shape != batch[0].shape:
        raise RuntimeError("Check failed: t.TotalBytes() == device_tensor->TotalBytes()")


def _runnable(graph_def: graph_pb2.GraphDef) -> graph_pb2.GraphDef:
    """The graph with every engine a call of its native segment."""
    graph = graph_pb2.GraphDef()
    graph.CopyFrom(graph_def)
    for node in [node for node in graph.node if node.op == "TRTEngineOp"]:
        attributes = dict(node.attr)
        renamed = {
            "Tin": attributes["InT"],
            "Tout": attributes["OutT"],
            "f": attributes["segment_func"],
        }
        renamed = {name: _copy(value) for name, value in renamed.items()}
        may_build = attributes["_allow_build_at_runtime"].b
        node.op = "PartitionedCall"
        for name in [name for name in node.attr if not name.startswith("_")]:
            del node.attr[name]
        for name, value in renamed.items():
            node.attr[name].CopyFrom(value)
        if not may_build:
            node.input.append(f"^{_add_look_up(graph, node.name)}")
    return graph


def _add_look_up(graph: graph_pb2.GraphDef, engine: str) -> str:
    """Adds ops that fail unless the engine is in the table of its name; returns the last."""
    with tf.Graph().as_default() as looking:
        table = tf.raw_ops.MutableHashTableV2(
            key_dtype=tf.string, value_dtype=tf.int64, shared_name=engine.split("/")[-1]
        )
        found = tf.raw_ops.LookupTableFindV2(
            table_handle=table, keys=tf.constant([LOADED]), default_value=_length("")
        )
        here = tf.reduce_all(tf.equal(found, _length(ENGINE)))
        message = "User disallowed engine native segment execution"
        check = tf.raw_ops.Assert(condition=here, data=[tf.constant(message)])
    prefix = f"{engine}_cache/"
    for node in looking.as_graph_def().node:
        added = graph.node.add()
        added.CopyFrom(node)
        added.name = prefix + node.name
        del added.input[:]
        added.input.extend(
            f"^{prefix}{name[1:]}" if name.startswith("^") else prefix + name for name in node.input
        )
    return prefix + str(check.name)


def _length(content: Any) -> tf.Tensor:
    return tf.cast(tf.strings.length(content), tf.int64)


def _copy(value: attr_value_pb2.AttrValue) -> attr_value_pb2.AttrValue:
    return attr_value_pb2.AttrValue.FromString(value.SerializeToString())
