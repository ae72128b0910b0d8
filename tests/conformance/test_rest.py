"""The REST API: what is refused (the table is rest_cases.py) and what is answered."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conformance_export import BARE, expected_class_ids
from conformance_server import HttpReply, Target, call, send_http
from google.protobuf import json_format
from grpc_requests import GET_MODEL_METADATA, IMAGE, model_spec
from rest_cases import CASES, RestCase
from tensorflow_serving.apis import get_model_metadata_pb2

CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


@pytest.fixture
def models(target: Target, rest: str) -> str:
    """The path of the contract's model."""
    return f"/v1/models/{target.model_name}"


def post(rest: str, path: str, body: Any, **headers: str) -> HttpReply:
    raw = body if isinstance(body, bytes) else json.dumps(body)
    reply = send_http(rest, "POST", path, raw, headers)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json"), reply.body
    return reply


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row)
def test_refused(rest: str, target: Target, case: RestCase) -> None:
    path = case.path.format(model=target.model_name)
    reply = send_http(rest, case.method, path, case.body or None)
    error = reply.json["error"]
    if isinstance(case.error, re.Pattern):
        assert case.error.fullmatch(error), error
    else:
        assert error == case.error
    assert reply.status == case.status
    assert reply.headers["Content-Type"] == "application/json"
    assert re.fullmatch(rb'\{\n    "error": "[^\n]*"\n\}', reply.body)


def test_the_status_of_a_version(rest: str, models: str) -> None:
    reply = send_http(rest, "GET", f"{models}/versions/1")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert reply.body.decode().rstrip("\n") == (
        "{\n"
        ' "model_version_status": [\n'
        "  {\n"
        '   "version": "1",\n'
        '   "state": "AVAILABLE",\n'
        '   "status": {\n'
        '    "error_code": "OK",\n'
        '    "error_message": ""\n'
        "   }\n"
        "  }\n"
        " ]\n"
        "}"
    )


def test_the_status_of_every_version(rest: str, models: str) -> None:
    versions = send_http(rest, "GET", models).json["model_version_status"]
    available = [entry["version"] for entry in versions if entry["state"] == "AVAILABLE"]
    assert available == ["2", "1"]


@pytest.mark.parametrize(("path", "version"), [("", 2), ("/versions/1", 1)])
def test_metadata_is_that_of_grpc(
    channel: grpc.Channel, target: Target, rest: str, models: str, path: str, version: int
) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        **model_spec(target.model_name, version=version), metadata_field=["signature_def"]
    )
    reply = get_model_metadata_pb2.GetModelMetadataResponse.FromString(
        call(channel, GET_MODEL_METADATA, request)
    )
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(signatures)
    expected = json_format.MessageToDict(
        signatures, including_default_value_fields=True, preserving_proto_field_name=True
    )
    got = send_http(rest, "GET", f"{models}{path}/metadata").json
    assert got == {
        "model_spec": {
            "name": target.model_name,
            "signature_name": "",
            "version": str(version),
        },
        "metadata": {"signature_def": expected},
    }
    image = got["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["image"]
    assert image["dtype"] == "DT_UINT8"
    assert [dim["size"] for dim in image["tensor_shape"]["dim"]] == ["-1", "64", "96", "3"]


@pytest.mark.parametrize(("path", "version"), [("", 2), ("/versions/1", 1)])
def test_rows_and_columns_give_the_same(rest: str, models: str, path: str, version: int) -> None:
    expected = expected_class_ids(version, IMAGE).tolist()
    images = IMAGE.tolist()
    for body, key in (
        ({"instances": images}, "predictions"),
        ({"instances": [{"image": image} for image in images]}, "predictions"),
        ({"inputs": images}, "outputs"),
        ({"inputs": {"image": images}}, "outputs"),
        ({"inputs": images, "signature_name": "serving_default"}, "outputs"),
    ):
        assert post(rest, f"{models}{path}:predict", body).json == {key: expected}


def test_several_outputs_are_named(rest: str, models: str) -> None:
    expected = expected_class_ids(2, IMAGE).tolist()
    body = {"signature_name": "confidence"}
    rows = post(rest, f"{models}:predict", body | {"instances": IMAGE.tolist()}).json["predictions"]
    assert [row["class_ids"] for row in rows] == expected
    assert [set(row) for row in rows] == [{"class_ids", "confidence"}] * 2
    columns = post(rest, f"{models}:predict", body | {"inputs": IMAGE.tolist()}).json["outputs"]
    assert columns["class_ids"] == expected
    assert columns["confidence"] == [row["confidence"] for row in rows]


def test_rows_are_written_in_one_line_and_columns_in_many(rest: str) -> None:
    path, signature = f"/v1/models/{BARE}:predict", {"signature_name": "echo"}
    for body, text in (
        ({"instances": [1, 2.5]}, '"predictions": [1.0, 2.5\n    ]'),
        ({"instances": [[1, 2], [3, 4]]}, '"predictions": [[1.0, 2.0], [3.0, 4.0]\n    ]'),
        ({"inputs": [1, 2.5]}, '"outputs": [\n        1.0,\n        2.5\n    ]'),
        ({"inputs": 7}, '"outputs": 7.0'),
    ):
        assert post(rest, path, signature | body).body.decode() == f"{{\n    {text}\n}}"


def test_several_outputs_of_a_row_are_written_a_line_each(rest: str) -> None:
    row = {"image": [[[1, 2, 3]]], "offset": 0.5}
    text = post(rest, f"/v1/models/{BARE}:predict", {"instances": [row]}).body.decode()
    assert text.startswith('{\n    "predictions": [\n        {\n            "')
    assert text.endswith("\n        }\n    ]\n}")
    assert '\n            "total": [[6.0]]' in text
    assert '\n            "offset": 0.5' in text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("0.2", "0.2"),
        ("1", "1.0"),
        ("-0.0", "-0.0"),
        ("123456", "123456.0"),
        ("1234567", "1234567.0"),
        ("9000000", "9e+06"),
        ("0.00003", "3e-05"),
        ("0.1234567", "0.123456702"),
        ("16777216", "16777216.0"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("-Infinity", "-Infinity"),
    ],
)
def test_a_float_is_written_with_as_many_digits_as_it_needs(
    rest: str, number: str, text: str
) -> None:
    body = f'{{"signature_name": "echo", "inputs": {number}}}'.encode()
    reply = post(rest, f"/v1/models/{BARE}:predict", body)
    assert reply.body.decode() == f'{{\n    "outputs": {text}\n}}'


def test_strings_are_written_as_they_are_and_bytes_as_base64(rest: str, models: str) -> None:
    row = {"image": [[[1, 2, 3]]], "offset": 0.5}
    (answer,) = post(rest, f"/v1/models/{BARE}:predict", {"instances": [row]}).json["predictions"]
    assert answer["text"] == "é/"
    assert answer["text_bytes"] == {"b64": base64.b64encode("é/".encode()).decode()}
    # A string of bytes whose name does not end in _bytes comes as no UTF-8 that a client may read.
    pngs = [{"b64": base64.b64encode(tf.io.encode_png(image).numpy()).decode()} for image in IMAGE]
    body = {"signature_name": "encoded", "instances": pngs}
    raw = post(rest, f"{models}:predict", body).body
    masks = json.loads(raw.decode("latin-1"))["predictions"]
    decoded = np.stack([tf.io.decode_png(mask.encode("latin-1")).numpy() for mask in masks])
    np.testing.assert_array_equal(decoded[..., 0], expected_class_ids(2, IMAGE))


def test_a_string_may_be_given_as_it_is(rest: str, models: str) -> None:
    body = {"signature_name": "describe", "instances": ["", "é"]}
    first, second = post(rest, f"{models}:predict", body).json["predictions"]
    assert first == second
    assert json.loads(first)["architecture"] == "brightest_channel"


def test_an_integer_out_of_range_wraps(rest: str, models: str) -> None:
    image = np.zeros((1, *IMAGE.shape[1:]), int)
    image[..., 0] = 256 + 5  # 5 as a uint8
    image[..., 1] = 6
    reply = post(rest, f"{models}:predict", {"instances": image.tolist()})
    assert np.unique(reply.json["predictions"]).tolist() == [1]


def test_a_body_may_be_gzip(rest: str, models: str) -> None:
    body = json.dumps({"instances": IMAGE.tolist()}).encode()
    reply = post(rest, f"{models}:predict", gzip.compress(body), **{"Content-Encoding": "gzip"})
    assert reply.json == {"predictions": expected_class_ids(2, IMAGE).tolist()}


def test_paths_are_of_any_case_and_names_may_be_escaped(rest: str, target: Target) -> None:
    first, others = target.model_name[0], target.model_name[1:]
    for path in (f"/V1/Models/{target.model_name}", f"/v1/models/%{ord(first):02x}{others}"):
        assert send_http(rest, "GET", path).status == 200


def test_what_is_no_api_is_not_found(rest: str) -> None:
    for path in ("/", "/v2/models", "/monitoring"):
        reply = send_http(rest, "GET", path)
        assert reply.status == 404
        assert b"404 Not Found" in reply.body and b"<HTML>" in reply.body


def test_browsers_of_other_origins_are_let_in(rest: str, models: str) -> None:
    for path, status in ((models, 200), ("/v1/models/x", 404)):
        reply = send_http(rest, "GET", path)
        assert reply.status == status
        assert reply.headers.items() >= CORS_HEADERS.items()
    asked = send_http(rest, "OPTIONS", f"{models}:predict", headers={"Origin": "http://x.org"})
    assert (asked.status, asked.body) == (200, b"")
    assert asked.headers.items() >= CORS_HEADERS.items()


@pytest.mark.parametrize("headers", [{}, {"Origin": "x.org"}])
def test_options_needs_an_origin(rest: str, models: str, headers: dict[str, str]) -> None:
    reply = send_http(rest, "OPTIONS", f"{models}:predict", headers=headers)
    assert (reply.status, reply.body) == (400, b"")


def test_nobody_else_is_let_in_unless_it_is_wanted(bare_target: Target) -> None:
    if not bare_target.rest:
        pytest.skip("needs --bare_rest")
    reply = send_http(bare_target.rest, "GET", f"/v1/models/{bare_target.model_name}")
    assert reply.status == 200
    assert not reply.headers.keys() & CORS_HEADERS.keys()
