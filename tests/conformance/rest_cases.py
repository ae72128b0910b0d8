"""The contract over REST: request, status, error. Each row is one that TensorFlow Serving refuses.

The texts of JSON errors are RapidJSON's, and so are the offsets: where its parser stood.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from conformance_export import BARE, IMAGE_SIZE

__all__ = ["CASES", "RestCase"]

HEIGHT, WIDTH = IMAGE_SIZE
PREDICT = "/v1/models/{model}:predict"
BARE_PREDICT = f"/v1/models/{BARE}:predict"


@dataclass(frozen=True)
class RestCase:
    """A request and the error that answers it.

    Args:
        row: What is wrong with the request.
        method: The HTTP method.
        path: The path; {model} stands for the served model's name.
        body: The body.
        status: The HTTP status.
        error: The text under "error", or a pattern of the whole of it.
    """

    row: str
    method: str
    path: str
    body: str
    status: int
    error: str | re.Pattern[str]


def _predict(
    row: str, body: Any, error: str | re.Pattern[str], *, path: str = PREDICT, status: int = 400
) -> RestCase:
    return RestCase(
        row, "POST", path, body if isinstance(body, str) else json.dumps(body), status, error
    )


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=4)


def _element(index: int, error: str, key: str = "") -> str:
    where = f"{index} key: {key}" if key else f"{index}"
    return (
        f"Failed to process element: {where} of 'instances' list. Error: INVALID_ARGUMENT: {error}"
    )


def _wrong_type(value: Any, kind: str, expected: str = "uint8") -> str:
    return f"JSON Value: {_pretty(value)} Type: {kind} is not of expected type: {expected}"


ROW = {"instances": [[[0]]]}

_PATH_CASES = (
    RestCase("no model", "GET", "/v1/models", "", 400, "Missing model name in request."),
    RestCase(
        "metadata of no model, which is a model of that name", "GET", "/v1/models/metadata", "",
        404, "Could not find any versions of model metadata",
    ),
    RestCase(
        "status of an unknown model", "GET", "/v1/models/x", "", 404,
        "Could not find any versions of model x",
    ),
    RestCase(
        "status of an unknown version", "GET", f"/v1/models/{BARE}/versions/9", "", 404,
        f"Could not find version 9 of model {BARE}",
    ),
    RestCase(
        "metadata of an unknown model", "GET", "/v1/models/x/metadata", "", 404,
        "Servable not found for request: Latest(x)",
    ),
    RestCase(
        "metadata of an unknown version", "GET", f"/v1/models/{BARE}/versions/9/metadata", "", 404,
        f"Servable not found for request: Specific({BARE}, 9)",
    ),
    RestCase(
        "version out of range", "GET", "/v1/models/{model}/versions/99999999999999999999", "", 400,
        "Failed to convert version: 99999999999999999999 to numeric.",
    ),
    RestCase(
        "version that is no number", "GET", "/v1/models/{model}/versions/x", "", 400,
        re.compile(r"Malformed request: GET /v1/models/[^/]+/versions/x"),
    ),
    RestCase(
        "a query, which is part of the model's name", "GET", f"/v1/models/{BARE}?x=1", "", 404,
        f"Could not find any versions of model {BARE}?x=1",
    ),
    RestCase(
        "a query behind a version", "GET", f"/v1/models/{BARE}/versions/1?x=1", "", 400,
        f"Malformed request: GET /v1/models/{BARE}/versions/1?x=1",
    ),
    RestCase(
        "a query behind a method", "POST", f"/v1/models/{BARE}:predict?x=1", "{}", 400,
        f"Malformed request: POST /v1/models/{BARE}:predict?x=1",
    ),
    RestCase(
        "unknown method", "POST", f"/v1/models/{BARE}:explain", "{}", 400,
        f"Malformed request: POST /v1/models/{BARE}:explain",
    ),
    RestCase(
        "POST where GET is meant", "POST", f"/v1/models/{BARE}", "{}", 400,
        f"Malformed request: POST /v1/models/{BARE}",
    ),
    RestCase(
        "GET where POST is meant", "GET", f"/v1/models/{BARE}:predict", "", 400,
        f"Malformed request: GET /v1/models/{BARE}:predict",
    ),
    *(
        RestCase(
            f"{method}", method, f"/v1/models/{BARE}", "", 400,
            f"Malformed request: {method} /v1/models/{BARE}",
        )
        for method in ("PUT", "DELETE", "PATCH")
    ),
    RestCase("no such resource", "GET", "/v1/nothing", "", 400,
             "Malformed request: GET /v1/nothing"),
    _predict("unknown model", ROW, "Servable not found for request: Latest(x)",
             path="/v1/models/x:predict", status=404),
    _predict("unknown version", ROW, f"Servable not found for request: Specific({BARE}, 9)",
             path=f"/v1/models/{BARE}/versions/9:predict", status=404),
    _predict("unknown label", ROW, "Unrecognized servable version label: x",
             path="/v1/models/{model}/labels/x:predict"),
)  # fmt: skip

_JSON_CASES = (
    _predict("empty body", "", "JSON Parse error: The document is empty"),
    *(
        _predict(f"JSON that ends or goes wrong: {body}", body, f"JSON Parse error: {error}")
        for body, error in {
            "x": "Invalid value. at offset: 0",
            "nonsense": "Invalid value. at offset: 1",
            '{"instances": x}': "Invalid value. at offset: 14",
            "{": "Missing a name for object member. at offset: 1",
            "{a": "Missing a name for object member. at offset: 1",
            '{"a" 1}': "Missing a colon after a name of object member. at offset: 5",
            '{"a": 1 "b"': "Missing a comma or '}' after an object member. at offset: 8",
            '{"a": [1 2': "Missing a comma or ']' after an array element. at offset: 9",
            "{} x": "The document root must not be followed by other values. at offset: 3",
        }.items()
    ),
    _predict("no object", [1], f"JSON Value: {_pretty([1])} Is not object"),
    _predict("no object but a number", 7, "JSON Value: 7 Is not object"),
    _predict(
        "signature_name that is no string",
        {"signature_name": 1, "instances": [1]},
        f"JSON Value: {_pretty({'signature_name': 1, 'instances': [1]})} not formatted correctly. "
        "'signature_name' key must be a string value.",
    ),
    _predict(
        "unknown signature",
        {"signature_name": "x", "instances": [1]},
        'Serving signature name: "x" not found in signature def',
    ),
    _predict("neither inputs nor instances", {}, "Missing 'inputs' or 'instances' key"),
    _predict(
        "both inputs and instances",
        {"inputs": 1, "instances": [1]},
        f"JSON Value: {_pretty({'inputs': 1, 'instances': [1]})} Not formatted correctly "
        "expecting only one of 'inputs' or 'instances' keys to exist ",
    ),
    _predict(
        "instances that are no list",
        {"instances": 1},
        f"JSON Value: {_pretty({'instances': 1})} Expecting 'instances' to be an list/array",
    ),
    _predict(
        "no instances",
        {"instances": []},
        f"JSON Value: {_pretty({'instances': []})} No values in 'instances' array",
    ),
)

_VALUE_CASES = (
    *(
        _predict(
            f"value that is no uint8: {json.dumps(value)}",
            {"instances": [[value]]},
            _element(0, _wrong_type(value, kind)),
        )
        for value, kind in (
            (None, "Null"),
            (False, "False"),
            (True, "True"),
            ("a", "String"),
            (1.5, "Number"),
            ({"b64": "AA=="}, "Object"),
        )
    ),
    _predict("value that is no uint8, columnar", {"inputs": ["a"]}, _wrong_type("a", "String")),
    _predict(
        "value of a named input",
        {"instances": [{"image": "a"}]},
        _element(0, _wrong_type("a", "String"), "image"),
    ),
    _predict(
        "base64 of nothing",
        {"signature_name": "encoded", "instances": [{"b64": "%"}]},
        _element(0, "Unable to base64 decode"),
    ),
    _predict(
        "no base64 object",
        {"signature_name": "encoded", "inputs": [{"b64": 1}]},
        f"JSON Value: {_pretty({'b64': 1})} not formatted correctly for base64 data",
    ),
    _predict(
        "list of another size",
        {"inputs": [[1, 2], [3]]},
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    _predict(
        "value where a list is due",
        {"inputs": [[1], 2]},
        "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
    ),
    _predict(
        "list where a value is due",
        {"inputs": [1, [2]]},
        "Encountered list at unexpected level: 1 expected < 1",
    ),
    _predict(
        "instances of different sizes",
        {"instances": [[1, 2], [3]]},
        _element(1, "Expecting tensor size: 2 but got: 1"),
    ),
    _predict(
        "instances of different shapes",
        {"instances": [[[1, 2]], [[1], [2]]]},
        _element(1, "Expecting shape [1,2] but got: [2,1]"),
    ),
    _predict(
        "a list among objects",
        {"instances": [{"image": 1}, [1]]},
        "Expecting object but got list at item 1 of input list",
    ),
    _predict(
        "an object among lists",
        {"instances": [[1], {"image": 1}]},
        "Expecting value/list but got object at item 1 of input list",
    ),
    _predict(
        "unknown input",
        {"instances": [{"foo": 1}]},
        _element(0, "JSON object: does not have named input: foo", "foo"),
    ),
    _predict(
        "an input too few",
        {"instances": [{"image": 1}]},
        "Failed to process element: 0 of 'instances' list. JSON object: "
        f"{_pretty({'image': 1})} keys must be equal to: image,offset",
        path=BARE_PREDICT,
    ),
    _predict(
        "two inputs and a plain list",
        {"instances": [[1]]},
        "instances is a plain list, but expecting list of objects as multiple input tensors "
        "required as per tensorinfo_map",
        path=BARE_PREDICT,
    ),
    _predict(
        "two inputs and a plain value",
        {"inputs": [1]},
        "inputs is a plain value/list, but expecting an object as multiple input tensors "
        "required as per tensorinfo_map",
        path=BARE_PREDICT,
    ),
    _predict(
        "an input too few, columnar",
        {"inputs": {"offset": [1]}},
        "Missing named input: image in 'inputs' object.",
        path=BARE_PREDICT,
    ),
    _predict(
        "wrong shape",
        {"instances": [[[0, 0, 0]]]},
        re.compile(
            r"Shape of tensor \S+ \[1,1,3\] is not compatible with expected shape "
            rf"\[\?,{HEIGHT},{WIDTH},3\]\.\n\t \[\[\{{\{{.*node .*",
            re.DOTALL,
        ),
    ),
    _predict(
        "a dtype that JSON is not read into",
        {"signature_name": "half", "inputs": [1.5]},
        "Conversion of JSON Value: 1.5 to type: half",
        path=BARE_PREDICT,
        status=501,
    ),
    _predict(
        "rows of an output without a batch",
        {"signature_name": "scalar", "instances": [1, 2]},
        "Tensor name: count has no shape information ",
        path=BARE_PREDICT,
    ),
    _predict(
        "rows of outputs that differ in number",
        {"signature_name": "uneven", "instances": [1, 2]},
        re.compile(
            "Tensor name: (twice has inconsistent batch size: 4 expecting: 2"
            "|once has inconsistent batch size: 2 expecting: 4)"
        ),
        path=BARE_PREDICT,
    ),
)

_CLASSIFY = "/v1/models/{model}:classify"
_EXAMPLE_CASES = (
    _predict(
        "classify without examples",
        {"a": 1},
        f"JSON Value: {_pretty({'a': 1})} When method is classify, key 'examples' is expected "
        "and was not found",
        path=_CLASSIFY,
    ),
    _predict(
        "regress without examples",
        {"a": 1},
        f"JSON Value: {_pretty({'a': 1})} When method is classify, key 'examples' is expected "
        "and was not found",
        path="/v1/models/{model}:regress",
    ),
    _predict(
        "classify, unknown signature",
        {"signature_name": "x", "examples": [{"a": 1}]},
        "No signature was found with the name: x",
        path=_CLASSIFY,
    ),
    _predict(
        "classify on a predict signature",
        {"examples": [{"a": 1}]},
        re.compile(r"No classification inputs found in SignatureDef: inputs \{\n.*", re.DOTALL),
        path=_CLASSIFY,
    ),
)

CASES = (*_PATH_CASES, *_JSON_CASES, *_VALUE_CASES, *_EXAMPLE_CASES)
