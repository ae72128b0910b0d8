from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2

from segkit.serving.wire import (
    MAX_FILLED_BYTES,
    MAX_FILLED_STRINGS,
    decode_tensor,
    encode_response,
    encode_tensor,
)

RNG = np.random.default_rng(3)
TENSORS = {
    "uint8 below 128": RNG.integers(0, 128, (2, 5, 7), np.uint8),
    "uint8 of any value": RNG.integers(0, 256, (2, 5, 7), np.uint8),
    "uint8 full of ignored": np.full((3, 4), 255, np.uint8),
    "uint8 empty": np.zeros((0, 64, 96), np.uint8),
    "uint8 scalar": np.array(200, np.uint8),
    "int8": RNG.integers(-128, 128, (40,), np.int8),
    "int32": np.array([0, 1, 127, 128, 300, 2**31 - 1, -1, -(2**31)], np.int32),
    "int64 class ids": RNG.integers(0, 19, (4, 4), np.int64),
    "int64": np.array([0, 2**63 - 1, -(2**63), -1, 16383, 16384], np.int64),
    "uint16": np.array([0, 127, 128, 65535], np.uint16),
    "uint32": np.array([0, 2**32 - 1], np.uint32),
    "uint64": np.array([0, 2**64 - 1], np.uint64),
    "bool": np.array([[True, False], [False, True]]),
    "float32": RNG.standard_normal((3, 2)).astype(np.float32),
    "float64": RNG.standard_normal((3, 2)),
    "float16": RNG.standard_normal((3, 2)).astype(np.float16),
    "bfloat16": RNG.standard_normal((3, 2)).astype(tf.bfloat16.as_numpy_dtype),
    "complex64": np.array([1 + 2j, -3.5j], np.complex64),
    "complex128": np.array([1 + 2j, -3.5j], np.complex128),
    "string": np.array([[b"", b"a"], [b"\xff\x00", b"mask"]], object),
    "not contiguous": RNG.integers(0, 256, (6, 8), np.uint8)[:, ::2],
}


@pytest.mark.parametrize("array", TENSORS.values(), ids=TENSORS.keys())
def test_tensorflow_reads_what_is_encoded(array: Any) -> None:
    proto = tf.make_tensor_proto(0)
    proto.ParseFromString(encode_tensor(array))
    read = tf.make_ndarray(proto)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("array", TENSORS.values(), ids=TENSORS.keys())
def test_what_is_encoded_is_decoded(array: Any) -> None:
    proto = tf.make_tensor_proto(0)
    proto.ParseFromString(encode_tensor(array))
    np.testing.assert_array_equal(decode_tensor(proto), array)


@pytest.mark.parametrize("name", ["uint8 of any value", "float32", "int64", "string", "bfloat16"])
def test_requests_of_make_tensor_proto_are_decoded(name: str) -> None:
    proto = tf.make_tensor_proto(TENSORS[name])
    np.testing.assert_array_equal(decode_tensor(proto), TENSORS[name])


@pytest.mark.parametrize("name", ["uint8 below 128", "uint8 of any value", "bool", "int32"])
def test_bytes_are_those_of_protobuf(name: str) -> None:
    """Field by field the same as protobuf writes from Python integers, never tensor_content."""
    array = TENSORS[name]
    proto = tf.make_tensor_proto(0)
    proto.ParseFromString(encode_tensor(array))
    assert not proto.tensor_content
    field = proto.bool_val if name == "bool" else proto.int_val
    assert list(field) == array.ravel().tolist()
    assert proto.SerializeToString() == encode_tensor(array)


def test_response_is_a_predict_response() -> None:
    spec = model_pb2.ModelSpec(name="segkit", signature_name="serving_default")
    spec.version.value = 3
    outputs = {name: TENSORS[name] for name in ("uint8 of any value", "string", "uint8 scalar")}
    response = predict_pb2.PredictResponse.FromString(encode_response(outputs, spec))
    assert response.model_spec == spec
    assert set(response.outputs) == set(outputs)
    for name, array in outputs.items():
        np.testing.assert_array_equal(tf.make_ndarray(response.outputs[name]), array)


def test_missing_values_repeat_the_last_one_and_none_is_zero() -> None:
    proto = tf.make_tensor_proto(0, tf.uint8, shape=[2, 3])
    del proto.int_val[:]
    proto.tensor_content = b""
    assert decode_tensor(proto).tolist() == [[0, 0, 0], [0, 0, 0]]
    proto.int_val.extend([1, 2])
    assert decode_tensor(proto).tolist() == [[1, 2, 2], [2, 2, 2]]
    proto.int_val.extend([3, 4, 5, 300, 7])
    assert decode_tensor(proto).tolist() == [[1, 2, 3], [4, 5, 300 - 256]]


def test_a_repeated_string_fills_the_shape() -> None:
    proto = tf.make_tensor_proto(["a"], tf.string)
    proto.tensor_shape.dim[0].size = 3
    assert decode_tensor(proto).tolist() == [b"a", b"a", b"a"]


def test_tensor_content_is_not_copied() -> None:
    image = TENSORS["uint8 of any value"]
    assert not decode_tensor(tf.make_tensor_proto(image)).flags.owndata


@pytest.mark.parametrize("change", ["content", "dtype", "negative", "unknown", "string content"])
def test_impossible_tensors_are_refused(change: str) -> None:
    proto = tf.make_tensor_proto(np.zeros((2, 3), np.uint8))
    if change == "content":
        proto.tensor_content += b"\0"
    elif change == "dtype":
        proto.dtype = 0
    elif change == "negative":
        proto.tensor_shape.dim[0].size = -2
    elif change == "unknown":
        proto.tensor_shape.unknown_rank = True
    else:
        proto.dtype = tf.string.as_datatype_enum
    with pytest.raises(ValueError):
        decode_tensor(proto)


@pytest.mark.parametrize(
    "shape",
    [
        [1, 10**9, 10**9, 3],
        [2**62, 4, 4],
        [2**62],
        [1, 4096, 4096, 5],
        [0, 2**62, 2**62],
        [1] * 255,
        [2**62] * 100_000,
    ],
    ids=["elements", "overflow", "one", "84 MB", "empty", "rank", "ranks"],
)
@pytest.mark.parametrize("values", [0, 1])
def test_a_few_bytes_do_not_ask_for_gigabytes(shape: list[int], values: int) -> None:
    proto = tf.make_tensor_proto(np.zeros(0, np.uint8))
    del proto.tensor_shape.dim[:]
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    proto.int_val[:] = [7] * values
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):
            decode_tensor(proto)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_what_may_be_filled_in_is_bounded() -> None:
    for dtype, most in ((tf.uint8, MAX_FILLED_BYTES), (tf.string, MAX_FILLED_STRINGS)):
        proto = tf.make_tensor_proto([], dtype, shape=[0])
        proto.tensor_shape.dim[0].size = most
        assert decode_tensor(proto).shape == (most,)
        proto.tensor_shape.dim[0].size += 1
        with pytest.raises(ValueError, match="filled in"):
            decode_tensor(proto)
