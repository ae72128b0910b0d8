"""What is answered over gRPC: values, names, encoding; metadata; limits and deadlines."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conformance_export import BARE, IMAGE_SIZE, expected_class_ids
from conformance_server import Target, call, counter, model_states
from grpc_requests import GET_MODEL_METADATA, IMAGE, PREDICT, model_spec, predict_request
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

AVAILABLE = 30
TENSOR_CONTENT, FLOAT_VAL, INT_VAL, STRING_VAL = 4, 5, 7, 8  # fields of TensorProto
LENGTH_DELIMITED = 2
CLIENT_LIMIT = 4 << 20  # what a gRPC client receives unless it is told otherwise


def predict(channel: grpc.Channel, request: Any, **options: Any) -> predict_pb2.PredictResponse:
    return predict_pb2.PredictResponse.FromString(call(channel, PREDICT, request, **options))


def output(response: predict_pb2.PredictResponse, name: str = "class_ids") -> Any:
    return tf.make_ndarray(response.outputs[name])


def wire_types(message: Any) -> dict[int, int]:
    """Field number -> wire type of what is in a message, from its bytes."""
    return dict(_fields(message.SerializeToString()))


def _fields(raw: bytes) -> Iterator[tuple[int, int]]:
    position = 0
    while position < len(raw):
        tag, position = _varint(raw, position)
        yield tag >> 3, tag & 7
        size, position = _varint(raw, position)
        if tag & 7 == LENGTH_DELIMITED:
            position += size


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


@pytest.mark.parametrize(("wanted", "answers"), [(None, 2), (1, 1), (2, 2)])
def test_the_newest_version_answers_or_the_one_that_is_named(
    channel: grpc.Channel, target: Target, wanted: int | None, answers: int
) -> None:
    response = predict(channel, predict_request(target.model_name, version=wanted))
    assert list(response.outputs) == ["class_ids"]
    assert output(response).dtype == np.uint8
    np.testing.assert_array_equal(output(response), expected_class_ids(answers, IMAGE))


@pytest.mark.parametrize("signature", ["", "serving_default", "confidence"])
def test_the_reply_names_model_version_and_signature(
    channel: grpc.Channel, target: Target, signature: str
) -> None:
    spec = predict(channel, predict_request(target.model_name, signature=signature)).model_spec
    named = signature or "serving_default"
    assert (
        spec
        == predict_pb2.PredictRequest(
            **model_spec(target.model_name, version=2, signature=named)
        ).model_spec
    )


def test_confidence_comes_with_the_classes_unless_it_is_filtered(
    channel: grpc.Channel, target: Target
) -> None:
    both = predict(channel, predict_request(target.model_name, signature="confidence"))
    assert set(both.outputs) == {"class_ids", "confidence"}
    np.testing.assert_array_equal(output(both), expected_class_ids(2, IMAGE))
    powers = np.exp(IMAGE / 64.0)
    expected = np.round(255 * powers.max(-1) / powers.sum(-1))
    # The exponential is the engine's own; bfloat16 has 8 bits of it.
    np.testing.assert_allclose(output(both, "confidence").astype(float), expected, atol=3)
    request = predict_request(target.model_name, signature="confidence", outputs=["confidence"])
    one = predict(channel, request)
    assert list(one.outputs) == ["confidence"]
    assert one.outputs["confidence"] == both.outputs["confidence"]


def test_an_encoded_image_gives_an_encoded_mask(channel: grpc.Channel, target: Target) -> None:
    pngs = np.array([tf.io.encode_png(image).numpy() for image in IMAGE], object)
    request = predict_request(target.model_name, {"encoded_image": pngs}, signature="encoded")
    masks = output(predict(channel, request), "encoded_mask")
    decoded = np.stack([tf.io.decode_png(mask).numpy()[..., 0] for mask in masks])
    np.testing.assert_array_equal(decoded, expected_class_ids(2, IMAGE))


def test_describe_says_what_the_model_is(channel: grpc.Channel, target: Target) -> None:
    request = predict_request(target.model_name, {"query": [b"", b""]}, signature="describe")
    answers = output(predict(channel, request), "metadata")
    assert len(answers) == 2 and answers[0] == answers[1]
    assert json.loads(answers[0])["architecture"] == "brightest_channel"


def test_uint8_is_packed_int_val(channel: grpc.Channel, target: Target) -> None:
    response = predict(channel, predict_request(target.model_name, signature="confidence"))
    for tensor in response.outputs.values():
        assert wire_types(tensor).get(INT_VAL) == LENGTH_DELIMITED
        assert TENSOR_CONTENT not in wire_types(tensor)
        assert len(tensor.int_val) == IMAGE[..., 0].size


def test_floats_and_strings_are_in_fields_of_their_own(channel: grpc.Channel) -> None:
    response = predict(channel, predict_request(BARE, {"image": IMAGE, "offset": [0.25, 7]}))
    assert list(response.outputs["offset"].float_val) == [0.25, 7]
    assert list(response.outputs["text"].string_val) == ["é/".encode()] * 2
    assert output(response, "total").tolist() == IMAGE.sum(-1, dtype=float).tolist()
    for name, field in {"offset": FLOAT_VAL, "total": FLOAT_VAL, "text": STRING_VAL}.items():
        assert wire_types(response.outputs[name]).get(field) == LENGTH_DELIMITED
        assert TENSOR_CONTENT not in wire_types(response.outputs[name])


def test_an_input_left_out_has_its_default(channel: grpc.Channel) -> None:
    response = predict(channel, predict_request(BARE, {"image": IMAGE[:1]}))
    assert list(response.outputs["offset"].float_val) == [0.5]


def test_a_size_that_nothing_checks_is_accepted(channel: grpc.Channel) -> None:
    image = IMAGE[:, :5, :7]
    response = predict(channel, predict_request(BARE, {"image": image}))
    np.testing.assert_array_equal(output(response, "total"), image.sum(-1, dtype=float))


def test_values_may_come_one_by_one_or_one_for_all(channel: grpc.Channel, target: Target) -> None:
    spelled = tf.make_tensor_proto(0, tf.uint8, shape=IMAGE.shape)
    spelled.int_val[:] = IMAGE.ravel().tolist()
    response = predict(channel, predict_request(target.model_name, {"image": spelled}))
    np.testing.assert_array_equal(output(response), expected_class_ids(2, IMAGE))
    spelled.int_val[:] = [9]
    response = predict(channel, predict_request(target.model_name, {"image": spelled}))
    assert not output(response).any()


def test_fields_of_a_request_that_mean_nothing_here_are_ignored(
    channel: grpc.Channel, target: Target
) -> None:
    request = predict_request(target.model_name)
    plain = call(channel, PREDICT, request)
    request.client_id = b"someone"
    request.predict_streamed_options.SetInParent()
    unknown = b"\xfa\x07\x03abc"  # field 127
    assert call(channel, PREDICT, request.SerializeToString() + unknown) == plain


def test_an_empty_batch_has_an_empty_answer(channel: grpc.Channel, target: Target) -> None:
    empty = tf.make_tensor_proto(np.zeros(0, object), tf.string, shape=[0])
    request = predict_request(target.model_name, {"query": empty}, signature="describe")
    assert output(predict(channel, request), "metadata").shape == (0,)


def test_an_empty_batch_of_images_has_an_empty_answer_unless_onednn_refuses_it(
    channel: grpc.Channel, target: Target
) -> None:
    request = predict_request(target.model_name, {"image": IMAGE[:0]})
    try:
        answer = output(predict(channel, request))
    except grpc.RpcError as err:  # TensorFlow's own, on CPUs where it convolves by oneDNN
        assert err.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert re.search(r"\{\{node \S*conv", err.details(), re.IGNORECASE)
    else:
        assert (answer.shape, answer.dtype) == ((0, *IMAGE_SIZE), np.uint8)


def test_metadata_holds_the_signatures_as_saved(channel: grpc.Channel, target: Target) -> None:
    for wanted, version in ((None, 2), (1, 1)):
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            **model_spec(target.model_name, version=wanted), metadata_field=["signature_def"]
        )
        reply = get_model_metadata_pb2.GetModelMetadataResponse.FromString(
            call(channel, GET_MODEL_METADATA, request)
        )
        assert (reply.model_spec.name, reply.model_spec.version.value) == (
            target.model_name,
            version,
        )
        assert not reply.model_spec.signature_name
        assert list(reply.metadata) == ["signature_def"]
        signatures = get_model_metadata_pb2.SignatureDefMap()
        assert reply.metadata["signature_def"].Unpack(signatures)
        assert set(signatures.signature_def) >= {
            "serving_default",
            "confidence",
            "encoded",
            "describe",
        }
        default = signatures.signature_def["serving_default"]
        assert default.method_name == "tensorflow/serving/predict"
        image = default.inputs["image"]
        assert (image.name, image.dtype) == ("serving_default_image:0", tf.uint8.as_datatype_enum)
        assert [dim.size for dim in image.tensor_shape.dim] == [-1, *IMAGE_SIZE, 3]
        assert default.outputs["class_ids"].dtype == tf.uint8.as_datatype_enum


def test_the_port_opened_when_every_model_had_loaded(target: Target) -> None:
    if not target.first_states:
        pytest.skip("the server was running before")
    assert target.first_states == {
        target.model_name: [AVAILABLE, AVAILABLE],
        BARE: [AVAILABLE],
    }


def test_versions_are_listed_newest_first_and_labels_ignored(
    channel: grpc.Channel, target: Target
) -> None:
    states = [entry for entry in model_states(channel, target.model_name) if entry[1] == AVAILABLE]
    assert states == [(2, AVAILABLE), (1, AVAILABLE)]
    assert model_states(channel, target.model_name, version=1) == [(1, AVAILABLE)]
    assert model_states(channel, target.model_name, label="nothing") == model_states(
        channel, target.model_name
    )


def many(model: str, request_bytes: int) -> tuple[Any, predict_pb2.PredictRequest]:
    """A batch of so many bytes, and the request with it; the reply has a third of them."""
    image = np.resize(IMAGE, (request_bytes // IMAGE[0].size + 1, *IMAGE.shape[1:]))
    return image, predict_request(model, {"image": image})


def test_30_mb_are_accepted(channel: grpc.Channel, target: Target) -> None:
    image, request = many(target.model_name, 30_000_000)
    assert request.ByteSize() > 30_000_000
    response = predict(channel, request, timeout=60)
    np.testing.assert_array_equal(output(response), expected_class_ids(2, image))


def test_a_reply_over_4_mib_needs_a_client_that_takes_it(
    channel: grpc.Channel, target: Target
) -> None:
    _, request = many(target.model_name, 3 * CLIENT_LIMIT)
    size = len(call(channel, PREDICT, request))
    assert size > CLIENT_LIMIT
    with grpc.insecure_channel(target.grpc) as limited, pytest.raises(grpc.RpcError) as caught:
        call(limited, PREDICT, request)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert f"eceived message larger than max ({size} vs. {CLIENT_LIMIT})" in caught.value.details()


def test_a_request_may_be_compressed(target: Target, channel: grpc.Channel) -> None:
    request = predict_request(target.model_name)
    with grpc.insecure_channel(target.grpc, compression=grpc.Compression.Gzip) as compressing:
        assert call(compressing, PREDICT, request) == call(channel, PREDICT, request)


def much_work(model: str) -> predict_pb2.PredictRequest:
    """Few bytes and half a second or more: an image of 36 megapixels, to be made small."""
    png = tf.io.encode_png(np.zeros((6000, 6000, 3), np.uint8)).numpy()
    return predict_request(model, {"encoded_image": [png]}, signature="encoded")


def test_a_deadline_ends_the_request(channel: grpc.Channel, target: Target, rest: str) -> None:
    name = ":tensorflow:serving:request_count"
    labels = {"model_name": target.model_name, "status": "DEADLINE_EXCEEDED"}
    before = counter(rest, name, labels)
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, PREDICT, much_work(target.model_name), timeout=0.2)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # So far the client alone may have given up. The server says that it did too when the kernel
    # that was running has ended.
    end = time.monotonic() + 20
    while counter(rest, name, labels) == before:
        assert time.monotonic() < end, "the server never counted it"
        time.sleep(0.05)
    assert predict(channel, predict_request(target.model_name)).outputs
