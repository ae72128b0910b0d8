"""The contract over gRPC: request, code, message. Each row is one that TensorFlow Serving refuses.

A message is compared whole; where it holds the names of nodes, which are the graph's and the
engine's own, a pattern says what it must be otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from conformance_export import BARE, IMAGE_SIZE
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

__all__ = [
    "CASES",
    "CLASSIFY",
    "GET_MODEL_METADATA",
    "GET_MODEL_STATUS",
    "IMAGE",
    "MULTI_INFERENCE",
    "PREDICT",
    "REGRESS",
    "RELOAD",
    "GrpcCase",
    "model_spec",
    "predict_request",
    "status_request",
]

_PREDICTION = "/tensorflow.serving.PredictionService"
PREDICT = f"{_PREDICTION}/Predict"
CLASSIFY = f"{_PREDICTION}/Classify"
REGRESS = f"{_PREDICTION}/Regress"
MULTI_INFERENCE = f"{_PREDICTION}/MultiInference"
GET_MODEL_METADATA = f"{_PREDICTION}/GetModelMetadata"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"

HEIGHT, WIDTH = IMAGE_SIZE
IMAGE = np.random.default_rng(4).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED
INTERNAL = grpc.StatusCode.INTERNAL


@dataclass(frozen=True)
class GrpcCase:
    """A request and the status that answers it.

    Args:
        row: What is wrong with the request.
        method: The full name of the method that is called.
        request: Name of the served model -> the request: a message, or bytes as they are.
        code: The status's code.
        message: The status's message, or a pattern of the whole of it.
        kills_server: tensorflow/serving ends at this request, so only segkit's server is asked.
    """

    row: str
    method: str
    request: Callable[[str], Any]
    code: grpc.StatusCode
    message: str | re.Pattern[str]
    kills_server: bool = False


def model_spec(
    name: str = "", *, version: int | None = None, label: str = "", signature: str = ""
) -> dict[str, Any]:
    """A ModelSpec, as the keyword that a request's constructor takes."""
    spec: dict[str, Any] = {"name": name, "signature_name": signature}
    if version is not None:
        spec["version"] = {"value": version}
    if label:
        spec["version_label"] = label
    return {"model_spec": spec}


def predict_request(
    name: str,
    inputs: Mapping[str, Any] | None = None,
    *,
    outputs: Iterable[str] = (),
    **spec: Any,
) -> predict_pb2.PredictRequest:
    """A PredictRequest; without inputs it has the image that the contract wants."""
    request = predict_pb2.PredictRequest(**model_spec(name, **spec), output_filter=outputs)
    for key, value in ({"image": IMAGE} if inputs is None else inputs).items():
        is_proto = isinstance(value, tf.make_tensor_proto(0).__class__)
        request.inputs[key].CopyFrom(value if is_proto else tf.make_tensor_proto(value))
    return request


def status_request(name: str, **spec: Any) -> get_model_status_pb2.GetModelStatusRequest:
    """A GetModelStatusRequest."""
    return get_model_status_pb2.GetModelStatusRequest(**model_spec(name, **spec))


def _metadata_request(*fields: str, **spec: Any) -> get_model_metadata_pb2.GetModelMetadataRequest:
    return get_model_metadata_pb2.GetModelMetadataRequest(**spec, metadata_field=fields)


def _classify(**spec: Any) -> classification_pb2.ClassificationRequest:
    return classification_pb2.ClassificationRequest(**spec)


def _regress(**spec: Any) -> regression_pb2.RegressionRequest:
    return regression_pb2.RegressionRequest(**spec)


def _multi(*tasks: tuple[str, str, str]) -> inference_pb2.MultiInferenceRequest:
    """Tasks of model name, signature name, method name."""
    return inference_pb2.MultiInferenceRequest(
        tasks=[
            {**model_spec(name, signature=signature), "method_name": method}
            for name, signature, method in tasks
        ]
    )


def _wrongly_sized() -> Any:
    proto = tf.make_tensor_proto(IMAGE)
    proto.tensor_shape.dim[0].size = 3
    return proto


def _of_shape(*shape: int) -> dict[str, Any]:
    return {"image": np.zeros(shape, np.uint8)}


def _bare(image: Any, **inputs: Any) -> predict_pb2.PredictRequest:
    return predict_request(BARE, {"image": image, **inputs})


def _incompatible(shape: str) -> re.Pattern[str]:
    return re.compile(
        rf"Shape of tensor \S+ \[{shape}\] is not compatible with expected shape "
        rf"\[\?,{HEIGHT},{WIDTH},3\]\.\n\t \[\[\{{\{{function_node \S+\}}\}}"
        r"\{\{node \S*EnsureShape\S*\}\}\]\].*",
        re.DOTALL,
    )


METHODS = (
    PREDICT,
    CLASSIFY,
    REGRESS,
    MULTI_INFERENCE,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    RELOAD,
)
# What tensorflow_model_server does not register: of the same API package, of gRPC, and what
# --enable_profiler=false turns off.
UNKNOWN_METHODS = (
    f"{_PREDICTION}/Nothing",
    "/tensorflow.serving.SessionService/SessionRun",
    "/tensorflow.ProfilerService/Profile",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/nothing.Nothing/Nothing",
    "/",
)
UNDECODABLE = b"\x0a\xff\xff\xff\xff\x0f"  # a field longer than the message

_SPEC_CASES = (
    GrpcCase(
        "no model_spec",
        PREDICT,
        lambda model: predict_pb2.PredictRequest(),
        INVALID,
        "Missing ModelSpec",
    ),
    GrpcCase(
        "empty name",
        PREDICT,
        lambda model: predict_request(""),
        INVALID,
        "ModelSpec has no name specified.",
    ),
    GrpcCase(
        "unknown model",
        PREDICT,
        lambda model: predict_request("x"),
        NOT_FOUND,
        "Servable not found for request: Latest(x)",
    ),
    GrpcCase(
        "unknown version of an unknown model",
        PREDICT,
        lambda model: predict_request("x", version=9),
        NOT_FOUND,
        "Servable not found for request: Specific(x, 9)",
    ),
    GrpcCase(
        "unknown version",
        PREDICT,
        lambda model: predict_request(BARE, version=9),
        NOT_FOUND,
        f"Servable not found for request: Specific({BARE}, 9)",
    ),
    GrpcCase(
        "unknown label",
        PREDICT,
        lambda model: predict_request(model, label="x"),
        INVALID,
        "Unrecognized servable version label: x",
    ),
    GrpcCase(
        "unknown label of an unknown model",
        PREDICT,
        lambda model: predict_request("x", label="y"),
        INVALID,
        "Unrecognized servable version label: y",
    ),
    GrpcCase(
        "unknown signature",
        PREDICT,
        lambda model: predict_request(model, signature="x"),
        FAILED_PRECONDITION,
        'Serving signature key "x" not found.',
    ),
    GrpcCase(
        "any message over 1024 characters",
        PREDICT,
        lambda model: predict_request(model, signature="x" * 2000),
        FAILED_PRECONDITION,
        ('Serving signature key "' + "x" * 2000)[:1024] + "...TRUNCATED",
    ),
)

_INPUT_CASES = (
    GrpcCase(
        "missing input",
        PREDICT,
        lambda model: predict_request(model, {}),
        INVALID,
        "input size does not match signature: 0!=1 len({}) != len({image}). "
        "Sent extra: {}. Missing but required: {image}.",
    ),
    GrpcCase(
        "too many inputs",
        PREDICT,
        lambda model: predict_request(model, {"image": IMAGE, "foo": 1, "bar": 1}),
        INVALID,
        "input size does not match signature: 3!=1 len({bar,foo,image}) != len({image}). "
        "Sent extra: {bar,foo}. Missing but required: {}.",
    ),
    GrpcCase(
        "too many inputs where one has a default",
        PREDICT,
        lambda model: _bare(IMAGE, offset=[0.0], foo=1),
        INVALID,
        "input size does not match signature: 3!=2 len({foo,image,offset}) != "
        "len({image,offset}). Sent extra: {foo}. Missing but required: {}.",
    ),
    GrpcCase(
        "right count, wrong name",
        PREDICT,
        lambda model: predict_request(model, {"foo": IMAGE}),
        INVALID,
        "Signature input alias: image(feed name: serving_default_image:0) not found in request "
        "and no default value provided. Inputs expected to be in the request {foo}, or default "
        "input alias set: ",
    ),
    GrpcCase(
        "right count, wrong name, where another has a default",
        PREDICT,
        lambda model: predict_request(BARE, {"foo": IMAGE}),
        INVALID,
        "Signature input alias: image(feed name: serving_default_image:0) not found in request "
        "and no default value provided. Inputs expected to be in the request {foo}, or default "
        "input alias set: offset",
    ),
    GrpcCase(
        "wrong name in place of the one that has a default",
        PREDICT,
        lambda model: _bare(IMAGE, foo=1),
        INVALID,
        "Inputs contains invalid name. Used request inputs: image, request input: foo,image",
    ),
    GrpcCase(
        "tensor_content of another size than the shape",
        PREDICT,
        lambda model: predict_request(model, {"image": _wrongly_sized()}),
        INVALID,
        "tensor parsing error: image",
    ),
    GrpcCase(
        "no such dtype",
        PREDICT,
        lambda model: predict_request(
            model, {"image": tf.make_tensor_proto(0).__class__(dtype=0, tensor_content=b"1")}
        ),
        INVALID,
        "tensor parsing error: image",
    ),
    GrpcCase(
        "bad output_filter",
        PREDICT,
        lambda model: predict_request(model, signature="confidence", outputs=["x"]),
        INVALID,
        "output tensor alias not found in signature: x "
        "Outputs expected to be in the set {class_ids,confidence}.",
    ),
    GrpcCase(
        "duplicate output_filter",
        PREDICT,
        lambda model: predict_request(model, outputs=["class_ids", "class_ids"]),
        INVALID,
        "duplicate output tensor alias: class_ids",
    ),
    GrpcCase(
        "wrong dtype",
        PREDICT,
        lambda model: predict_request(model, {"image": IMAGE.astype(np.float32)}),
        INVALID,
        "Expects arg[0] to be uint8 but float is provided",
    ),
)


def _checked(name: str, *shape: int) -> GrpcCase:
    return GrpcCase(
        f"{name}, in a signature that checks its shape",
        PREDICT,
        lambda model: predict_request(model, _of_shape(*shape)),
        INVALID,
        _incompatible(",".join(map(str, shape))),
    )


_SHAPE_CASES = (
    _checked("rank 3", HEIGHT, WIDTH, 3),
    _checked("a scalar"),
    _checked("rank 5", 1, 1, HEIGHT, WIDTH, 3),
    _checked("wrong height", 1, HEIGHT - 1, WIDTH, 3),
    _checked("wrong channels", 1, HEIGHT, WIDTH, 4),
    GrpcCase(
        "wrong channels, in a signature that checks nothing",
        PREDICT,
        lambda model: _bare(np.zeros((1, 8, 8, 4), np.uint8)),
        INVALID,
        re.compile(
            r"input depth must be evenly divisible by filter depth: 4 vs 3\n\t "
            r"\[\[\{\{.*node \S+\}\}\]\].*",
            re.DOTALL,
        ),
    ),
    GrpcCase(
        "rank 3, in a signature that checks nothing",
        PREDICT,
        lambda model: _bare(np.zeros((8, 8, 3), np.uint8)),
        INVALID,
        re.compile(
            r"Shape of tensor \S+ \[8,8,3\] is not compatible with expected shape \[\?,\?,\?,3\]"
            r".*",
            re.DOTALL,
        ),
        kills_server=True,
    ),
    GrpcCase(
        "bytes that are no image",
        PREDICT,
        lambda model: predict_request(model, {"encoded_image": [b"x"]}, signature="encoded"),
        INVALID,
        re.compile(
            r"Unknown image file format\. One of JPEG, PNG, GIF, BMP required\.\n\t "
            r"\[\[\{\{.*node \S+\}\}\]\].*",
            re.DOTALL,
        ),
    ),
)

_MODEL_CASES = (
    GrpcCase(
        "metadata: no model_spec",
        GET_MODEL_METADATA,
        lambda model: _metadata_request("signature_def"),
        INVALID,
        "Missing ModelSpec",
    ),
    GrpcCase(
        "metadata: no field",
        GET_MODEL_METADATA,
        lambda model: _metadata_request(**model_spec("x")),
        INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    GrpcCase(
        "metadata: another field",
        GET_MODEL_METADATA,
        lambda model: _metadata_request("signature_def", "weights", **model_spec("x")),
        INVALID,
        "Metadata field weights is not supported",
    ),
    GrpcCase(
        "metadata: empty name",
        GET_MODEL_METADATA,
        lambda model: _metadata_request("signature_def", **model_spec("")),
        INVALID,
        "ModelSpec has no name specified.",
    ),
    GrpcCase(
        "metadata: unknown model",
        GET_MODEL_METADATA,
        lambda model: _metadata_request("signature_def", **model_spec("x")),
        NOT_FOUND,
        "Servable not found for request: Latest(x)",
    ),
    GrpcCase(
        "metadata: unknown label",
        GET_MODEL_METADATA,
        lambda model: _metadata_request("signature_def", **model_spec(model, label="x")),
        INVALID,
        "Unrecognized servable version label: x",
    ),
    GrpcCase(
        "status: no model_spec",
        GET_MODEL_STATUS,
        lambda model: get_model_status_pb2.GetModelStatusRequest(),
        INVALID,
        "Missing ModelSpec",
    ),
    GrpcCase(
        "status: unknown model",
        GET_MODEL_STATUS,
        lambda model: status_request("x"),
        NOT_FOUND,
        "Could not find any versions of model x",
    ),
    GrpcCase(
        "status: empty name",
        GET_MODEL_STATUS,
        lambda model: status_request(""),
        NOT_FOUND,
        "Could not find any versions of model ",
    ),
    GrpcCase(
        "status: unknown version",
        GET_MODEL_STATUS,
        lambda model: status_request(model, version=9),
        NOT_FOUND,
        re.compile(r"Could not find version 9 of model \S+"),
    ),
)

_CLASSIFY = "tensorflow/serving/classify"


def _example_cases(method: str, request_type: Callable[..., Any]) -> Iterable[GrpcCase]:
    """What Classify and Regress refuse alike."""
    name = method.rpartition("/")[2]
    return (
        GrpcCase(
            f"{name}: no model_spec",
            method,
            lambda model: request_type(),
            INVALID,
            "Missing ModelSpec",
        ),
        GrpcCase(
            f"{name}: unknown model",
            method,
            lambda model: request_type(**model_spec("x")),
            NOT_FOUND,
            "Servable not found for request: Latest(x)",
        ),
        GrpcCase(
            f"{name}: unknown signature",
            method,
            lambda model: request_type(**model_spec(model, signature="x")),
            INVALID,
            "No signature was found with the name: x",
        ),
    )


_EXAMPLE_CASES = (
    *_example_cases(CLASSIFY, _classify),
    *_example_cases(REGRESS, _regress),
    GrpcCase(
        "Classify on a predict signature",
        CLASSIFY,
        lambda model: _classify(**model_spec(model)),
        INVALID,
        re.compile(r"No classification inputs found in SignatureDef: inputs \{\n.*", re.DOTALL),
    ),
    GrpcCase(
        "Regress on a predict signature",
        REGRESS,
        lambda model: _regress(**model_spec(model)),
        INVALID,
        re.compile(r"No regression inputs found in SignatureDef: inputs \{\n.*", re.DOTALL),
    ),
    GrpcCase(
        "Regress on a predict signature of two outputs",
        REGRESS,
        lambda model: _regress(**model_spec(model, signature="confidence")),
        INVALID,
        "Expected one output Tensor.",
    ),
    GrpcCase(
        "MultiInference: no task",
        MULTI_INFERENCE,
        lambda model: _multi(),
        INVALID,
        "ModelSpec has no name specified.",
    ),
    GrpcCase(
        "MultiInference: unknown model",
        MULTI_INFERENCE,
        lambda model: _multi(("x", "", _CLASSIFY)),
        NOT_FOUND,
        "Servable not found for request: Latest(x)",
    ),
    GrpcCase(
        "MultiInference: unknown signature",
        MULTI_INFERENCE,
        lambda model: _multi((model, "s", _CLASSIFY)),
        INVALID,
        "Requested signature not found in model graph: s",
    ),
    GrpcCase(
        "MultiInference: unknown method",
        MULTI_INFERENCE,
        lambda model: _multi((model, "", "m")),
        UNIMPLEMENTED,
        "Unsupported signature method_name: m",
    ),
    GrpcCase(
        "MultiInference: a predict signature",
        MULTI_INFERENCE,
        lambda model: _multi((model, "", _CLASSIFY)),
        INVALID,
        re.compile(r"No classification inputs found in SignatureDef: inputs \{\n.*", re.DOTALL),
    ),
)

_METHOD_CASES = (
    *(
        GrpcCase(f"unknown method {method}", method, lambda model: b"", UNIMPLEMENTED, "")
        for method in UNKNOWN_METHODS
    ),
    *(
        GrpcCase(
            f"undecodable request to {method.rpartition('/')[2]}",
            method,
            lambda model: UNDECODABLE,
            INTERNAL,
            "",
        )
        for method in METHODS
    ),
)

CASES = (
    *_SPEC_CASES,
    *_INPUT_CASES,
    *_SHAPE_CASES,
    *_MODEL_CASES,
    *_EXAMPLE_CASES,
    *_METHOD_CASES,
)
