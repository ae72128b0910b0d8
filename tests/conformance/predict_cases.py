"""What Predict refuses: request, code, message.

A message is compared whole; where it holds the names of nodes, which are the graph's and the
engine's own, a pattern says what it must be otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from conformance_export import BARE
from grpc_requests import (
    FAILED_PRECONDITION,
    HEIGHT,
    IMAGE,
    INVALID,
    NOT_FOUND,
    PREDICT,
    WIDTH,
    GrpcCase,
    predict_request,
)
from tensorflow_serving.apis import predict_pb2

__all__ = ["PREDICT_CASES"]


def _case(
    row: str,
    request: Callable[[str], Any],
    message: str | re.Pattern[str],
    *,
    code: grpc.StatusCode = INVALID,
    kills_server: bool = False,
) -> GrpcCase:
    return GrpcCase(row, PREDICT, request, code, message, kills_server)


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


_SPEC_CASES = (
    _case(
        "no model_spec",
        lambda model: predict_pb2.PredictRequest(),
        "Missing ModelSpec",
    ),
    _case(
        "empty name",
        lambda model: predict_request(""),
        "ModelSpec has no name specified.",
    ),
    _case(
        "unknown model",
        lambda model: predict_request("x"),
        "Servable not found for request: Latest(x)",
        code=NOT_FOUND,
    ),
    _case(
        "unknown version of an unknown model",
        lambda model: predict_request("x", version=9),
        "Servable not found for request: Specific(x, 9)",
        code=NOT_FOUND,
    ),
    _case(
        "unknown version",
        lambda model: predict_request(BARE, version=9),
        f"Servable not found for request: Specific({BARE}, 9)",
        code=NOT_FOUND,
    ),
    _case(
        "unknown label",
        lambda model: predict_request(model, label="x"),
        "Unrecognized servable version label: x",
    ),
    _case(
        "unknown label of an unknown model",
        lambda model: predict_request("x", label="y"),
        "Unrecognized servable version label: y",
    ),
    _case(
        "unknown signature",
        lambda model: predict_request(model, signature="x"),
        'Serving signature key "x" not found.',
        code=FAILED_PRECONDITION,
    ),
    _case(
        "any message over 1024 characters",
        lambda model: predict_request(model, signature="x" * 2000),
        ('Serving signature key "' + "x" * 2000)[:1024] + "...TRUNCATED",
        code=FAILED_PRECONDITION,
    ),
)

_INPUT_CASES = (
    _case(
        "missing input",
        lambda model: predict_request(model, {}),
        "input size does not match signature: 0!=1 len({}) != len({image}). "
        "Sent extra: {}. Missing but required: {image}.",
    ),
    _case(
        "too many inputs",
        lambda model: predict_request(model, {"image": IMAGE, "foo": 1, "bar": 1}),
        "input size does not match signature: 3!=1 len({bar,foo,image}) != len({image}). "
        "Sent extra: {bar,foo}. Missing but required: {}.",
    ),
    _case(
        "too many inputs where one has a default",
        lambda model: _bare(IMAGE, offset=[0.0], foo=1),
        "input size does not match signature: 3!=2 len({foo,image,offset}) != "
        "len({image,offset}). Sent extra: {foo}. Missing but required: {}.",
    ),
    _case(
        "right count, wrong name",
        lambda model: predict_request(model, {"foo": IMAGE}),
        "Signature input alias: image(feed name: serving_default_image:0) not found in request "
        "and no default value provided. Inputs expected to be in the request {foo}, or default "
        "input alias set: ",
    ),
    _case(
        "right count, wrong name, where another has a default",
        lambda model: predict_request(BARE, {"foo": IMAGE}),
        "Signature input alias: image(feed name: serving_default_image:0) not found in request "
        "and no default value provided. Inputs expected to be in the request {foo}, or default "
        "input alias set: offset",
    ),
    _case(
        "wrong name in place of the one that has a default",
        lambda model: _bare(IMAGE, foo=1),
        "Inputs contains invalid name. Used request inputs: image, request input: foo,image",
    ),
    _case(
        "tensor_content of another size than the shape",
        lambda model: predict_request(model, {"image": _wrongly_sized()}),
        "tensor parsing error: image",
    ),
    _case(
        "no such dtype",
        lambda model: predict_request(
            model, {"image": tf.make_tensor_proto(0).__class__(dtype=0, tensor_content=b"1")}
        ),
        "tensor parsing error: image",
    ),
    _case(
        "bad output_filter",
        lambda model: predict_request(model, signature="confidence", outputs=["x"]),
        "output tensor alias not found in signature: x "
        "Outputs expected to be in the set {class_ids,confidence}.",
    ),
    _case(
        "duplicate output_filter",
        lambda model: predict_request(model, outputs=["class_ids", "class_ids"]),
        "duplicate output tensor alias: class_ids",
    ),
    _case(
        "wrong dtype",
        lambda model: predict_request(model, {"image": IMAGE.astype(np.float32)}),
        "Expects arg[0] to be uint8 but float is provided",
    ),
)


def _checked(name: str, *shape: int) -> GrpcCase:
    return _case(
        f"{name}, in a signature that checks its shape",
        lambda model: predict_request(model, _of_shape(*shape)),
        _incompatible(",".join(map(str, shape))),
    )


_SHAPE_CASES = (
    _checked("rank 3", HEIGHT, WIDTH, 3),
    _checked("a scalar"),
    _checked("rank 5", 1, 1, HEIGHT, WIDTH, 3),
    _checked("wrong height", 1, HEIGHT - 1, WIDTH, 3),
    _checked("wrong channels", 1, HEIGHT, WIDTH, 4),
    _case(
        "wrong channels, in a signature that checks nothing",
        lambda model: _bare(np.zeros((1, 8, 8, 4), np.uint8)),
        re.compile(
            r"input depth must be evenly divisible by filter depth: 4 vs 3\n\t "
            r"\[\[\{\{.*node \S+\}\}\]\].*",
            re.DOTALL,
        ),
    ),
    _case(
        "rank 3, in a signature that checks nothing",
        lambda model: _bare(np.zeros((8, 8, 3), np.uint8)),
        re.compile(
            r"Shape of tensor \S+ \[8,8,3\] is not compatible with expected shape \[\?,\?,\?,3\]"
            r".*",
            re.DOTALL,
        ),
        kills_server=True,
    ),
    _case(
        "bytes that are no image",
        lambda model: predict_request(model, {"encoded_image": [b"x"]}, signature="encoded"),
        re.compile(
            r"Unknown image file format\. One of JPEG, PNG, GIF, BMP required\.\n\t "
            r"\[\[\{\{.*node \S+\}\}\]\].*",
            re.DOTALL,
        ),
    ),
)


PREDICT_CASES = (*_SPEC_CASES, *_INPUT_CASES, *_SHAPE_CASES)
