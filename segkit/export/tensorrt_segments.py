"""How TF-TRT divides a graph into engines, found out on a machine without TensorRT.

TensorFlow's Linux wheels contain TF-TRT whole: its pass asks every op's converter whether it could
convert the op, and joins the ops that it could to segments. TensorRT itself is called only later,
when an engine is built. So the verdicts here are the converter's own, not a copy of its rules.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.training import saver

from segkit.errors import ExportError
from segkit.models.graph import InferenceGraph

__all__ = ["Segmentation", "segment"]

ENGINE_OP = "TRTEngineOp"
ENGINE_FUNCTION = "{}_native_segment"
REFUSAL = re.compile(
    r"Not a TF-TRT candidate, \(Op type: .*?\), \(Op name: (.*?)\), \(Reason: (.*)\)"
)


@dataclass(frozen=True)
class Segmentation:
    """What TF-TRT would do with a graph. Ops in neither field are in segments too small for it.

    Attributes:
        segments: The names of the nodes of each engine, constants with them; the biggest first.
        refused: Name of a node that is not converted -> TF-TRT's reason.
    """

    segments: tuple[frozenset[str], ...]
    refused: Mapping[str, str]


def segment(graph: InferenceGraph, *, minimum_segment_size: int = 3) -> Segmentation:
    """Runs TF-TRT's segmenter with explicit batch ("dynamic shapes"), as segkit converts.

    TF-TRT's environment variables count as in a conversion: TF_TRT_MAX_ALLOWED_ENGINES,
    TF_TRT_OP_DENYLIST.

    Args:
        graph: A frozen graph, see `segkit.models.graph.freeze`.
        minimum_segment_size: Segments with fewer nodes stay in TensorFlow. Constants count.

    Raises:
        ExportError: This TensorFlow has no TF-TRT, or its segmenter failed.
    """
    if not any(_pywrap_py_utils.get_linked_tensorrt_version()):
        raise ExportError(
            "this TensorFlow was built without TF-TRT, so nobody can ask it",
            expected="the wheel tensorflow==2.15.1 for Linux on x86-64 (not tensorflow-cpu)",
        )
    with tempfile.TemporaryDirectory(prefix="segkit-tensorrt-") as folder:
        source, target = Path(folder, "meta_graph.pb"), Path(folder, "converted.pb")
        source.write_bytes(_meta_graph(graph).SerializeToString())
        log = _run_pass(source, target, minimum_segment_size)
        converted = graph_pb2.GraphDef.FromString(target.read_bytes())
    refused = dict(REFUSAL.findall(log))
    if any(name.split(":")[0] not in refused for name in graph.inputs):
        # An input is always refused: a log that does not say so is not the one expected.
        raise ExportError(
            "TF-TRT's log does not name the ops that it refuses",
            expected="the log of TensorFlow 2.15",
            next_step="pip install -r requirements.txt",
        )
    functions = {function.signature.name: function for function in converted.library.function}
    names = {operation.name for operation in graph.graph.get_operations()}
    segments = [
        frozenset(inner.name for inner in functions[ENGINE_FUNCTION.format(node.name)].node_def)
        & names
        for node in converted.node
        if node.op == ENGINE_OP
    ]
    return Segmentation(
        tuple(sorted(segments, key=len, reverse=True)),
        {name: reason for name, reason in refused.items() if name in names},
    )


def _meta_graph(graph: InferenceGraph) -> meta_graph_pb2.MetaGraphDef:
    meta_graph = saver.export_meta_graph(graph_def=graph.graph.as_graph_def(), graph=graph.graph)
    ends = meta_graph_pb2.CollectionDef()
    ends.node_list.value.extend((*graph.inputs, *graph.outputs))
    meta_graph.collection_def["train_op"].CopyFrom(ends)  # where Grappler looks for what to keep
    return meta_graph


def _run_pass(source: Path, target: Path, minimum_segment_size: int) -> str:
    """Runs tensorrt_pass.py; returns its log.

    A process of its own: the reasons come out at a log level that TensorFlow reads when it is
    loaded, and a crash in the C++ code is a message instead of the end of this program.
    """
    package_root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            filter(None, (str(package_root), os.environ.get("PYTHONPATH", "")))
        ),
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "0",
        "TF_CPP_VMODULE": "segment=1",
    }
    child = subprocess.run(
        [
            *(sys.executable, "-m", "segkit.export.tensorrt_pass"),
            *(str(source), str(target), str(minimum_segment_size)),
        ],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if child.returncode != 0 or not target.is_file():
        last_lines = "\n    ".join(child.stderr.strip().splitlines()[-5:])
        raise ExportError(
            f"TF-TRT's segmenter ended with status {child.returncode}:\n    {last_lines}",
            expected="the converted graph",
        )
    return child.stderr
