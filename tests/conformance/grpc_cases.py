"""The contract over gRPC: requests that TensorFlow Serving refuses, with code and message."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from grpc_requests import (
    CLASSIFY,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    INTERNAL,
    INVALID,
    MULTI_INFERENCE,
    NOT_FOUND,
    PREDICT,
    REGRESS,
    RELOAD,
    UNIMPLEMENTED,
    GrpcCase,
    classify_request,
    metadata_request,
    model_spec,
    multi_request,
    regress_request,
    status_request,
)
from predict_cases import PREDICT_CASES
from tensorflow_serving.apis import get_model_status_pb2

__all__ = ["CASES", "UNDECODABLE"]

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
    "/tensorflow.serving.PredictionService/Nothing",
    "/tensorflow.serving.SessionService/SessionRun",
    "/tensorflow.ProfilerService/Profile",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/nothing.Nothing/Nothing",
    "/",
)
UNDECODABLE = b"\x0a\xff\xff\xff\xff\x0f"  # a field longer than the message

_MODEL_CASES = (
    GrpcCase(
        "metadata: no model_spec",
        GET_MODEL_METADATA,
        lambda model: metadata_request("signature_def"),
        INVALID,
        "Missing ModelSpec",
    ),
    GrpcCase(
        "metadata: no field",
        GET_MODEL_METADATA,
        lambda model: metadata_request(**model_spec("x")),
        INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    GrpcCase(
        "metadata: another field",
        GET_MODEL_METADATA,
        lambda model: metadata_request("signature_def", "weights", **model_spec("x")),
        INVALID,
        "Metadata field weights is not supported",
    ),
    GrpcCase(
        "metadata: empty name",
        GET_MODEL_METADATA,
        lambda model: metadata_request("signature_def", **model_spec("")),
        INVALID,
        "ModelSpec has no name specified.",
    ),
    GrpcCase(
        "metadata: unknown model",
        GET_MODEL_METADATA,
        lambda model: metadata_request("signature_def", **model_spec("x")),
        NOT_FOUND,
        "Servable not found for request: Latest(x)",
    ),
    GrpcCase(
        "metadata: unknown label",
        GET_MODEL_METADATA,
        lambda model: metadata_request("signature_def", **model_spec(model, label="x")),
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
    *_example_cases(CLASSIFY, classify_request),
    *_example_cases(REGRESS, regress_request),
    GrpcCase(
        "Classify on a predict signature",
        CLASSIFY,
        lambda model: classify_request(**model_spec(model)),
        INVALID,
        re.compile(r"No classification inputs found in SignatureDef: inputs \{\n.*", re.DOTALL),
    ),
    GrpcCase(
        "Regress on a predict signature",
        REGRESS,
        lambda model: regress_request(**model_spec(model)),
        INVALID,
        re.compile(r"No regression inputs found in SignatureDef: inputs \{\n.*", re.DOTALL),
    ),
    GrpcCase(
        "Regress on a predict signature of two outputs",
        REGRESS,
        lambda model: regress_request(**model_spec(model, signature="confidence")),
        INVALID,
        "Expected one output Tensor.",
    ),
    GrpcCase(
        "MultiInference: no task",
        MULTI_INFERENCE,
        lambda model: multi_request(),
        INVALID,
        "ModelSpec has no name specified.",
    ),
    GrpcCase(
        "MultiInference: unknown model",
        MULTI_INFERENCE,
        lambda model: multi_request(("x", "", _CLASSIFY)),
        NOT_FOUND,
        "Servable not found for request: Latest(x)",
    ),
    GrpcCase(
        "MultiInference: unknown signature",
        MULTI_INFERENCE,
        lambda model: multi_request((model, "s", _CLASSIFY)),
        INVALID,
        "Requested signature not found in model graph: s",
    ),
    GrpcCase(
        "MultiInference: unknown method",
        MULTI_INFERENCE,
        lambda model: multi_request((model, "", "m")),
        UNIMPLEMENTED,
        "Unsupported signature method_name: m",
    ),
    GrpcCase(
        "MultiInference: a predict signature",
        MULTI_INFERENCE,
        lambda model: multi_request((model, "", _CLASSIFY)),
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

CASES = (*PREDICT_CASES, *_MODEL_CASES, *_EXAMPLE_CASES, *_METHOD_CASES)
