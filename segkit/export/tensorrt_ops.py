"""What to do about an op that TF-TRT does not convert, in segkit's terms."""

from __future__ import annotations

__all__ = ["NO_OPS", "PASSIVE_OPS", "remedy", "short_reason"]

# They compute nothing: a segment of them alone becomes no engine.
NO_OPS = frozenset({"Identity", "IdentityN", "Snapshot", "StopGradient"})
# Not worth a line in a report: they hold or receive what the others compute with.
PASSIVE_OPS = frozenset({"Const", "NoOp", "Placeholder"})

RESIZE = (
    'build the network with resize="matmul" (segkit.models.layers.Resize): the same function as '
    "two constant matrix products. Nearest neighbour, and bilinear with align_corners=True, convert"
)
DILATION = (
    'build the network with resize="matmul", or use segkit.models.layers.DepthwiseConv2D('
    "native=True) and Conv2D, which trace to ops that convert"
)
CONTROL_FLOW = (
    "no loops or branches inside an engine: keep tf.map_fn, tf.while_loop and tf.cond in another "
    "signature, or at an end of the graph"
)
INTEGERS = (
    "TensorRT takes float32, float16, int32 and bool: let other types live at the ends of the "
    "graph alone, uint8 images before the first float op, class ids after the last"
)
CODECS = "decode and encode images at the ends of the graph, in a signature of their own"

# Op type -> remedy; the reason decides where an op has several, see REASONS.
OPS = {
    **dict.fromkeys(("ResizeArea", "ResizeBicubic", "ResizeBilinear", "ScaleAndTranslate"), RESIZE),
    **dict.fromkeys(("BatchToSpaceND", "SpaceToBatchND"), DILATION),
    "ArgMax": (
        "leave it outside: at the end of the graph it costs one border. If it must be inside, "
        "tf.argmax(..., output_type=tf.int32) converts (as TopK, slow on large maps)"
    ),
    "Cast": INTEGERS,
    "EnsureShape": "put it before the first float op, where it costs nothing",
    "FusedBatchNormV3": "export with training=False",
    **dict.fromkeys(
        ("Conv2D", "DepthwiseConv2dNative"), "a constant filter, and padding SAME or VALID"
    ),
    "Conv2DBackpropInput": (
        "its output shape must be a constant, which Keras's Conv2DTranspose has at a fixed batch "
        "size alone: resize and convolve instead"
    ),
    "Pad": "pad tensors of rank 4, along two axes at most",
    **dict.fromkeys(
        ("MirrorPad", "PadV2"),
        "pad with zeros (tf.keras.layers.ZeroPadding2D), which traces to Pad",
    ),
    "Einsum": "name every axis in its equation, without an ellipsis",
    **dict.fromkeys(
        ("PartitionedCall", "StatefulPartitionedCall"),
        "no Conv2D(groups=...): Keras traces it to an XLA call, which is not inlined",
    ),
    **dict.fromkeys(("If", "StatelessIf", "While", "StatelessWhile"), CONTROL_FLOW),
    **dict.fromkeys(
        ("Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"), CONTROL_FLOW
    ),
    **dict.fromkeys(("DecodeImage", "DecodeJpeg", "DecodePng", "EncodeJpeg", "EncodePng"), CODECS),
}
# Part of TF-TRT's reason -> remedy.
REASONS = {
    "TF_TRT_OP_DENYLIST": "unset the environment variable TF_TRT_OP_DENYLIST",
    "Unsupported tensorflow data type": INTEGERS,
    "Data type ": INTEGERS,
    "Input tensor rank is unknown": "give the model's input a shape",
    "new_axis_mask": "use tf.expand_dims instead of indexing with tf.newaxis",
    "excluded by segmenter option": "nothing: inputs and outputs always stay in TensorFlow",
}
NOTHING_KNOWN = "replace it by ops that convert, or move it to an end of the graph"

MAX_REASON_LENGTH = 90
WRAPPER = "Failed to convert at least one input to a TRT_TensorOrWeights: "


def remedy(op_type: str, reason: str) -> str:
    """What to do about an op.

    Args:
        op_type: "ResizeBilinear", say.
        reason: TF-TRT's.
    """
    for part, advice in REASONS.items():
        if part in reason:
            return advice
    if op_type.startswith("TensorList"):
        return CONTROL_FLOW
    return OPS.get(op_type, NOTHING_KNOWN)


def short_reason(reason: str) -> str:
    """TF-TRT's reason in one short line."""
    if "excluded by segmenter option" in reason:
        return "an output of the graph"
    reason = reason.removeprefix(WRAPPER).rstrip(".")
    if len(reason) > MAX_REASON_LENGTH:
        reason = reason[: MAX_REASON_LENGTH - 3] + "..."
    return reason
