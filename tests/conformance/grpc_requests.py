"""Requests over gRPC, and what a row of a table of refused ones is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from conformance_export import IMAGE_SIZE
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

__all__ = [
    "CLASSIFY", "FAILED_PRECONDITION", "GET_MODEL_METADATA", "GET_MODEL_STATUS", "HEIGHT", "IMAGE",
    "INTERNAL", "INVALID", "MULTI_INFERENCE", "NOT_FOUND", "PREDICT", "REGRESS", "RELOAD",
    "UNIMPLEMENTED", "WIDTH", "GrpcCase", "classify_request", "metadata_request", "model_spec",
    "multi_request", "predict_request", "regress_request", "status_request",
]  # fmt: skip

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


def metadata_request(*fields: str, **spec: Any) -> get_model_metadata_pb2.GetModelMetadataRequest:
    """A GetModelMetadataRequest."""
    return get_model_metadata_pb2.GetModelMetadataRequest(**spec, metadata_field=fields)


def classify_request(**spec: Any) -> classification_pb2.ClassificationRequest:
    """A ClassificationRequest without examples."""
    return classification_pb2.ClassificationRequest(**spec)


def regress_request(**spec: Any) -> regression_pb2.RegressionRequest:
    """A RegressionRequest without examples."""
    return regression_pb2.RegressionRequest(**spec)


def multi_request(*tasks: tuple[str, str, str]) -> inference_pb2.MultiInferenceRequest:
    """A MultiInferenceRequest of tasks of model name, signature name, method name."""
    return inference_pb2.MultiInferenceRequest(
        tasks=[
            {**model_spec(name, signature=signature), "method_name": method}
            for name, signature, method in tasks
        ]
    )
