"""The replies and errors of TensorFlow Serving, seen through the reference client's stubs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from segkit import contract
from segkit.contract import Metadata

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
IMAGE = np.random.default_rng(4).integers(0, 256, (2, 64, 96, 3), np.uint8)
PREDICT = "/tensorflow.serving.PredictionService/Predict"


@pytest.fixture(scope="module")
def channel(running_server: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(running_server) as channel:
        yield channel


@pytest.fixture(scope="module")
def prediction(channel: grpc.Channel) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel: grpc.Channel) -> Any:
    return model_service_pb2_grpc.ModelServiceStub(channel)


def predict_request(
    *, signature: str = "", outputs: tuple[str, ...] = (), **inputs: Any
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = "segkit"
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        is_proto = isinstance(value, type(tf.make_tensor_proto(0)))
        request.inputs[name].CopyFrom(value if is_proto else tf.make_tensor_proto(value))
    return request


def status(call: Any, request: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=options.pop("timeout", 30), **options)
    return caught.value.code(), caught.value.details()


def test_the_reply_is_what_the_model_says(prediction: Any, tiny_model: Any) -> None:
    response = prediction.Predict(predict_request(image=IMAGE))
    ids = tf.make_ndarray(response.outputs["class_ids"])
    expected = np.argmax(tiny_model(IMAGE.astype(np.float32)), axis=-1)
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, expected)


def test_the_reply_names_model_version_and_signature(prediction: Any) -> None:
    spec = prediction.Predict(predict_request(image=IMAGE)).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("segkit", 1, "serving_default")


def test_a_uint8_reply_is_packed_int_val_and_never_tensor_content(prediction: Any) -> None:
    response = prediction.Predict(predict_request(signature="confidence", image=IMAGE))
    confidence = response.outputs["confidence"]
    assert confidence.tensor_content == b""
    assert len(confidence.int_val) == IMAGE[..., 0].size


def test_repeated_fields_are_accepted_as_tensor_content_is(prediction: Any) -> None:
    packed = tf.make_tensor_proto(IMAGE)
    spelled = tf.make_tensor_proto(0, tf.uint8, shape=IMAGE.shape)
    spelled.int_val[:] = IMAGE.ravel().tolist()
    assert packed.tensor_content and not spelled.tensor_content
    first, second = (
        prediction.Predict(predict_request(image=image)).outputs for image in (packed, spelled)
    )
    assert first == second


def test_the_string_signatures_answer(prediction: Any, tiny_metadata: Metadata) -> None:
    pngs = np.array([tf.io.encode_png(image).numpy() for image in IMAGE], object)
    response = prediction.Predict(predict_request(signature="encoded", encoded_image=pngs))
    masks = response.outputs["encoded_mask"].string_val
    assert [tf.io.decode_png(mask).shape for mask in masks] == [(64, 96, 1)] * 2
    response = prediction.Predict(predict_request(signature="describe", query=[b""]))
    (text,) = tf.make_ndarray(response.outputs["metadata"])
    assert Metadata.from_json(text, source="describe") == tiny_metadata


def test_the_output_filter_selects(prediction: Any) -> None:
    request = predict_request(signature="confidence", outputs=("confidence",), image=IMAGE)
    assert list(prediction.Predict(request).outputs) == ["confidence"]


def test_an_empty_batch_has_an_empty_answer(prediction: Any) -> None:
    empty = tf.make_tensor_proto(np.zeros((0,), object), tf.string, shape=[0])
    response = prediction.Predict(predict_request(signature="describe", query=empty))
    assert tf.make_ndarray(response.outputs["metadata"]).shape == (0,)


def test_a_version_may_be_named(prediction: Any) -> None:
    request = predict_request(image=IMAGE)
    request.model_spec.version.value = 1
    assert prediction.Predict(request).model_spec.version.value == 1


def test_model_spec_errors(prediction: Any) -> None:
    assert status(prediction.Predict, predict_pb2.PredictRequest()) == (
        INVALID,
        "Missing ModelSpec",
    )
    request = predict_request(image=IMAGE)
    request.model_spec.name = ""
    assert status(prediction.Predict, request) == (INVALID, "ModelSpec has no name specified.")
    request.model_spec.name = "x"
    assert status(prediction.Predict, request) == (
        NOT_FOUND,
        "Servable not found for request: Latest(x)",
    )
    request.model_spec.version.value = 9
    assert status(prediction.Predict, request) == (
        NOT_FOUND,
        "Servable not found for request: Specific(x, 9)",
    )
    request.model_spec.name = "segkit"
    assert status(prediction.Predict, request) == (
        NOT_FOUND,
        "Servable not found for request: Specific(segkit, 9)",
    )
    request.model_spec.version_label = "x"
    assert status(prediction.Predict, request) == (
        INVALID,
        "Unrecognized servable version label: x",
    )


BAD_SIZE = tf.make_tensor_proto(IMAGE)
BAD_SIZE.tensor_shape.dim[0].size = 3


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (
            predict_request(signature="x", image=IMAGE),
            grpc.StatusCode.FAILED_PRECONDITION,
            'Serving signature key "x" not found.',
        ),
        (
            predict_request(),
            INVALID,
            "input size does not match signature: 0!=1 len({}) != len({image}). "
            "Sent extra: {}. Missing but required: {image}.",
        ),
        (
            predict_request(image=IMAGE, foo=1, bar=1),
            INVALID,
            "input size does not match signature: 3!=1 len({bar,foo,image}) != len({image}). "
            "Sent extra: {bar,foo}. Missing but required: {}.",
        ),
        (
            predict_request(foo=IMAGE),
            INVALID,
            "Signature input alias: image(feed name: serving_default_image:0) not found in "
            "request and no default value provided. Inputs expected to be in the request {foo}, "
            "or default input alias set: ",
        ),
        (predict_request(image=BAD_SIZE), INVALID, "tensor parsing error: image"),
        (
            predict_request(outputs=("x",), signature="confidence", image=IMAGE),
            INVALID,
            "output tensor alias not found in signature: x "
            "Outputs expected to be in the set {class_ids,confidence}.",
        ),
        (
            predict_request(outputs=("class_ids", "class_ids"), image=IMAGE),
            INVALID,
            "duplicate output tensor alias: class_ids",
        ),
        (
            predict_request(image=IMAGE.astype(np.float32)),
            INVALID,
            "Expects arg[0] to be uint8 but float is provided",
        ),
    ],
)
def test_request_errors(
    prediction: Any, request_: Any, code: grpc.StatusCode, message: str
) -> None:
    assert status(prediction.Predict, request_) == (code, message)


@pytest.mark.parametrize("shape", [(64, 96, 3), (), (1, 1, 64, 96, 3), (1, 48, 96, 3)])
def test_the_server_survives_a_wrong_shape(prediction: Any, shape: tuple[int, ...]) -> None:
    for signature in ("serving_default", "confidence"):
        request = predict_request(signature=signature, image=np.zeros(shape, np.uint8))
        code, message = status(prediction.Predict, request)
        assert code == INVALID
        assert f"[{','.join(map(str, shape))}] is not compatible with" in message
        assert "expected shape [?,64,96,3].\n\t [[{{function_node" in message
    assert prediction.Predict(predict_request(image=IMAGE)).outputs


def test_undecodable_images_name_the_formats(prediction: Any) -> None:
    request = predict_request(signature="encoded", encoded_image=[b"no image"])
    code, message = status(prediction.Predict, request)
    assert code == INVALID
    assert message.startswith("Unknown image file format. One of JPEG, PNG, GIF, BMP required.")


def test_a_long_message_is_cut(prediction: Any) -> None:
    code, message = status(prediction.Predict, predict_request(signature="x" * 2000))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert message == ('Serving signature key "' + "x" * 2000)[:1024] + "...TRUNCATED"


def test_a_deadline_is_honored(prediction: Any) -> None:
    many = np.zeros((500, 64, 96, 3), np.uint8)
    code, _ = status(prediction.Predict, predict_request(image=many), timeout=0.002)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert prediction.Predict(predict_request(image=IMAGE)).outputs


def test_requests_over_grpcs_own_limit_are_accepted(prediction: Any) -> None:
    """4 MiB is what a gRPC server takes by default; tensorflow/serving takes 2 GiB."""
    many = np.zeros((300, 64, 96, 3), np.uint8)
    assert many.nbytes > 4 << 20
    assert prediction.Predict(predict_request(image=many)).outputs


def test_unknown_methods_and_undecodable_requests_have_no_details(channel: grpc.Channel) -> None:
    for method in (
        "/tensorflow.serving.PredictionService/Nothing",
        "/tensorflow.serving.SessionService/SessionRun",
        "/grpc.health.v1.Health/Check",
    ):
        assert status(channel.unary_unary(method), b"") == (grpc.StatusCode.UNIMPLEMENTED, "")
    garbage = b"\x0a\xff\xff\xff\xff\x0f"
    for method in (
        PREDICT,
        "/tensorflow.serving.PredictionService/GetModelMetadata",
        "/tensorflow.serving.ModelService/GetModelStatus",
    ):
        assert status(channel.unary_unary(method), garbage) == (grpc.StatusCode.INTERNAL, "")


def test_metadata_holds_the_signatures_as_saved(prediction: Any, tiny_export: Any) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "segkit"
    response = prediction.GetModelMetadata(request)
    assert (response.model_spec.name, response.model_spec.version.value) == ("segkit", 1)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert set(contract.SIGNATURES) < set(signatures.signature_def)
    default = signatures.signature_def["serving_default"]
    assert default.method_name == "tensorflow/serving/predict"
    image = default.inputs["image"]
    assert image.dtype == tf.uint8.as_datatype_enum
    assert [dim.size for dim in image.tensor_shape.dim] == [-1, 64, 96, 3]


def test_metadata_errors(prediction: Any) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    call = prediction.GetModelMetadata
    assert status(call, request) == (INVALID, "Missing ModelSpec")
    request.model_spec.name = "x"
    assert status(call, request) == (
        INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
    )
    request.metadata_field.append("weights")
    assert status(call, request) == (INVALID, "Metadata field weights is not supported")
    request.metadata_field[:] = ["signature_def"]
    assert status(call, request) == (NOT_FOUND, "Servable not found for request: Latest(x)")


def test_status_lists_the_versions(models: Any) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "segkit"
    for with_version in (False, True):
        if with_version:
            request.model_spec.version.value = 1
        (version,) = models.GetModelStatus(request).model_version_status
        assert (version.version, version.state) == (1, 30)
        assert (version.status.error_code, version.status.error_message) == (0, "")


def test_status_errors(models: Any) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    assert status(models.GetModelStatus, request) == (INVALID, "Missing ModelSpec")
    request.model_spec.name = "x"
    assert status(models.GetModelStatus, request) == (
        NOT_FOUND,
        "Could not find any versions of model x",
    )
    request.model_spec.name = "segkit"
    request.model_spec.version.value = 9
    assert status(models.GetModelStatus, request) == (
        NOT_FOUND,
        "Could not find version 9 of model segkit",
    )


def test_status_ignores_labels(models: Any) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "segkit"
    request.model_spec.version_label = "stable"
    assert len(models.GetModelStatus(request).model_version_status) == 1


def test_what_is_served_travels_beside_not_found(prediction: Any, models: Any) -> None:
    predict = predict_request()
    predict.model_spec.name = "x"
    state = get_model_status_pb2.GetModelStatusRequest()
    state.model_spec.name = "x"
    for call, request in ((prediction.Predict, predict), (models.GetModelStatus, state)):
        with pytest.raises(grpc.RpcError) as caught:
            call(request)
        assert (contract.SERVED_MODELS_KEY, "segkit") in caught.value.trailing_metadata()
