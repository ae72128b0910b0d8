"""TF-TRT's converter pass over one graph, without TensorRT: the child of tensorrt_segments.py.

`python -m segkit.export.tensorrt_pass META_GRAPH OUTPUT MINIMUM_SEGMENT_SIZE` writes the GraphDef
with a TRTEngineOp for every segment. Deciding what to convert is all it does: engines are built
later, and only that needs TensorRT and a GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.grappler import tf_optimizer

__all__ = ["main"]

PASS = "TensorRTOptimizer"


def main(argv: Sequence[str]) -> None:
    """Reads the meta graph of argv[0], writes the converted graph to argv[1]."""
    meta_graph, output, minimum_segment_size = Path(argv[0]), Path(argv[1]), int(argv[2])

    # What trt_convert.py of TensorFlow 2.15 sets for use_dynamic_shape=True. The other passes of
    # its list have run before, in segkit.models.graph.freeze.
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1
    options.remapping = options.OFF
    options.meta_optimizer_iterations = options.ONE
    options.optimizers.append(PASS)
    parameters = options.custom_optimizers.add(name=PASS).parameter_map
    parameters["minimum_segment_size"].i = minimum_segment_size
    parameters["max_workspace_size_bytes"].i = 1 << 30
    parameters["precision_mode"].s = b"FP32"
    parameters["maximum_cached_engines"].i = 1
    parameters["use_calibration"].b = False
    parameters["is_dynamic_op"].b = True
    parameters["allow_build_at_runtime"].b = True
    parameters["use_implicit_batch"].b = False
    parameters["profile_strategy"].s = b"range+optimal"

    # Under any other id the pass takes the graph for a function's body.
    converted = tf_optimizer.OptimizeGraph(
        config,
        meta_graph_pb2.MetaGraphDef.FromString(meta_graph.read_bytes()),
        graph_id=b"tf_graph",
    )
    output.write_bytes(converted.SerializeToString())


if __name__ == "__main__":
    main(sys.argv[1:])
