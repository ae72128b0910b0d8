from __future__ import annotations

import pytest

from segkit.export.tensorrt_ops import remedy, short_reason

REFUSED = "Op type {} is not supported."
UINT8 = (
    "Failed to convert at least one input to a TRT_TensorOrWeights: "
    "Unsupported tensorflow data type uint8"
)


@pytest.mark.parametrize(
    ("op", "reason", "advice"),
    [
        ("ResizeBilinear", "Cannot Convert ... align_corners=False", 'resize="matmul"'),
        ("SpaceToBatchND", REFUSED.format("SpaceToBatchND"), "DepthwiseConv2D(native=True)"),
        ("BatchToSpaceND", REFUSED.format("BatchToSpaceND"), "DepthwiseConv2D(native=True)"),
        ("ArgMax", "Output type int64 is not supported", "leave it outside"),
        ("Cast", "Cast op is not supported - Allowed input dtypes", "ends of the graph"),
        ("Relu", UINT8, "float32, float16, int32 and bool"),
        ("FusedBatchNormV3", "only supports is_training=false", "training=False"),
        ("StatefulPartitionedCall", REFUSED.format("StatefulPartitionedCall"), "groups="),
        ("StatelessWhile", REFUSED.format("StatelessWhile"), "tf.map_fn"),
        ("TensorListReserve", REFUSED.format("TensorListReserve"), "tf.map_fn"),
        ("Relu", "Denylisted with the env var TF_TRT_OP_DENYLIST", "unset"),
        ("Bucketize", REFUSED.format("Bucketize"), "replace it"),
    ],
)
def test_the_remedy_says_what_to_do(op: str, reason: str, advice: str) -> None:
    assert advice in remedy(op, reason)


def test_a_reason_becomes_one_short_line() -> None:
    assert short_reason(UINT8) == "Unsupported tensorflow data type uint8"
    assert short_reason(REFUSED.format("If")) == "Op type If is not supported"
    assert len(short_reason("x" * 500)) < 100


def test_an_output_is_called_one() -> None:
    reason = "excluded by segmenter option. Most likely an input or output node."
    assert short_reason(reason) == "an output of the graph"
