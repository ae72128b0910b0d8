"""The bytes of the wire, held against TensorFlow's own encoding."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from segkit.client.wire import decode_response, encode_request
from segkit.errors import ContractMismatch

FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
REPOSITORY = Path(__file__).resolve().parents[2]


def response(*, packed: bool = True, **outputs: np.ndarray) -> bytes:
    """What tensorflow/serving sends: values in repeated fields."""
    message = predict_pb2.PredictResponse()
    message.model_spec.name = "segkit"
    message.model_spec.version.value = 3
    for name, array in outputs.items():
        tensor = message.outputs[name]
        tensor.CopyFrom(tf.make_tensor_proto(array))
        if array.dtype == np.uint8 and packed:
            tensor.ClearField("tensor_content")
            tensor.int_val[:] = array.ravel().tolist()
    return message.SerializeToString()


def random_array(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("low, high", [(0, 128), (0, 256), (127, 129), (255, 256), (0, 1)])
def test_class_maps_of_any_ids_come_back_as_sent(low: int, high: int) -> None:
    rng = np.random.default_rng(low * 1000 + high)
    for shape in [(1, 48, 64), (3, 7, 5), (1, 1, 1), (0, 8, 8)]:
        ids = rng.integers(low, high, shape, np.uint8)
        got = decode_response(response(class_ids=ids))["class_ids"]
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, ids)


def test_class_map_of_small_ids_is_read_without_a_copy() -> None:
    data = response(class_ids=np.full((1, 8, 8), 5, np.uint8))
    got = decode_response(data)["class_ids"]
    assert np.shares_memory(got, np.frombuffer(data, np.uint8))


def test_repetitions_that_tensorflow_leaves_out_are_filled_in() -> None:
    tensor = tf.make_tensor_proto(9, dtype=tf.uint8, shape=(2, 3))
    assert len(tensor.int_val) == 1
    message = predict_pb2.PredictResponse(outputs={"class_ids": tensor})
    got = decode_response(message.SerializeToString())["class_ids"]
    np.testing.assert_array_equal(got, np.full((2, 3), 9, np.uint8))


def test_empty_values_are_zeros_as_in_tensorflow() -> None:
    tensor = tf.make_tensor_proto(0, dtype=tf.uint8, shape=(2, 3))
    tensor.ClearField("int_val")
    message = predict_pb2.PredictResponse(outputs={"class_ids": tensor})
    got = decode_response(message.SerializeToString())["class_ids"]
    np.testing.assert_array_equal(got, np.zeros((2, 3), np.uint8))


@pytest.mark.parametrize("dtype", ["bool", *FLOATS, *INTEGERS])
def test_every_dtype_decodes_as_make_ndarray_does(dtype: str) -> None:
    rng = np.random.default_rng(11)
    for shape in [(), (1,), (4, 3), (2, 0, 3)]:
        array = random_array(rng, dtype, shape)
        compact = tf.make_tensor_proto(array)
        spread = tf.make_tensor_proto(array.ravel().tolist(), dtype=dtype, shape=shape)
        for tensor in (compact, spread):
            message = predict_pb2.PredictResponse(outputs={"x": tensor})
            got = decode_response(message.SerializeToString())["x"]
            expected = tf.make_ndarray(tensor)
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("values", [[b""], [b"one"], [b"\x89PNG", b"", b"\xff" * 300]])
def test_strings_come_back_as_bytes(values: list[bytes]) -> None:
    array = np.array(values, object)
    got = decode_response(response(encoded_mask=array))["encoded_mask"]
    assert got.tolist() == values


def test_all_outputs_are_found_by_name() -> None:
    ids = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    confidence = 255 - ids
    got = decode_response(response(class_ids=ids, confidence=confidence))
    np.testing.assert_array_equal(got["class_ids"], ids)
    np.testing.assert_array_equal(got["confidence"], confidence)


def test_request_is_what_tensorflow_reads() -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (1, 6, 8, 3), np.uint8)
    data = encode_request(
        {"image": image, "query": np.array([b"", b"\xffx"], object)},
        model_name="street",
        signature="serving_default",
        version=7,
        outputs=("class_ids",),
    )
    request = predict_pb2.PredictRequest.FromString(data)
    assert request.model_spec.name == "street"
    assert request.model_spec.version.value == 7
    assert request.model_spec.signature_name == "serving_default"
    assert list(request.output_filter) == ["class_ids"]
    np.testing.assert_array_equal(tf.make_ndarray(request.inputs["image"]), image)
    assert tf.make_ndarray(request.inputs["query"]).tolist() == [b"", b"\xffx"]


def test_request_without_a_version_asks_for_the_latest() -> None:
    data = encode_request({}, model_name="segkit", signature="describe")
    request = predict_pb2.PredictRequest.FromString(data)
    assert not request.model_spec.HasField("version")
    assert not request.model_spec.HasField("version_label")


def test_a_label_stands_in_place_of_the_number() -> None:
    data = encode_request({}, model_name="segkit", signature="describe", label="stable")
    spec = predict_pb2.PredictRequest.FromString(data).model_spec
    assert spec.WhichOneof("version_choice") == "version_label"
    assert spec.version_label == "stable"


def test_strided_images_are_sent_as_they_look() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)[:, :, ::-1]
    data = encode_request({"image": image}, model_name="segkit", signature="serving_default")
    request = predict_pb2.PredictRequest.FromString(data)
    np.testing.assert_array_equal(tf.make_ndarray(request.inputs["image"]), image)


def test_damaged_replies_are_contract_mismatches_and_nothing_else() -> None:
    rng = np.random.default_rng(9)
    ids = rng.integers(0, 256, (1, 4, 5), np.uint8)
    data = response(class_ids=ids, metadata=np.array([b"{}"], object))
    for cut in range(1, len(data)):
        try:
            decode_response(data[:cut])
        except ContractMismatch as err:
            assert "cannot be read" in str(err)
    for _ in range(500):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 3):
            damaged[position] = rng.integers(0, 256)
        try:
            decode_response(bytes(damaged))
        except ContractMismatch as err:
            assert "gRPC port" in str(err)


def test_generated_messages_are_those_of_the_proto(tmp_path: Path) -> None:
    source = "segkit/client/wire.proto"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", source],
        cwd=REPOSITORY,
        check=True,
    )
    generated = (tmp_path / "segkit/client/wire_pb2.py").read_text(encoding="utf-8")
    committed = (REPOSITORY / "segkit/client/wire_pb2.py").read_text(encoding="utf-8")
    assert committed == generated
