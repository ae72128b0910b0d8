"""The REST API over a real server: routes, codes, headers. The errors of a body are elsewhere."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rest_requests import MODEL, ask, error, predict

from segkit.engines import Code, StatusError
from segkit.serving.rest import api as rest
from segkit.serving.rest.api import RestApi
from segkit.serving.rest.message import Reply, error_page
from segkit.serving.server import ModelServer
from segkit.serving.service import ModelServices

IMAGES = np.random.default_rng(8).integers(0, 256, (2, 64, 96, 3), np.uint8)
METRICS = "/monitoring/prometheus/metrics"


@pytest.fixture(scope="module")
def services(tiny_export: Path) -> Iterator[ModelServices]:
    with ModelServer.of("segkit", tiny_export) as server:
        yield server.services


@pytest.fixture(scope="module")
def api(services: ModelServices) -> RestApi:
    return RestApi(services, metrics_path=METRICS, metrics_page=lambda: "# no metrics\n")


@pytest.fixture(scope="module")
def class_ids(tiny_model: Any) -> list[Any]:
    ids: list[Any] = np.argmax(tiny_model(IMAGES.astype(np.float32)), axis=-1).tolist()
    return ids


@pytest.mark.parametrize(
    "target",
    [f"{MODEL}:predict", f"{MODEL}/versions/1:predict", "/V1/Models/%73egkit/VERSIONS/001:predict"],
)
def test_rows_and_columns(api: RestApi, class_ids: list[Any], target: str) -> None:
    assert predict(api, {"instances": IMAGES.tolist()}, target) == {"predictions": class_ids}
    named = {"instances": [{"image": image} for image in IMAGES.tolist()]}
    assert predict(api, named, target) == {"predictions": class_ids}
    assert predict(api, {"inputs": IMAGES.tolist()}, target) == {"outputs": class_ids}
    columns = {"inputs": {"image": IMAGES.tolist()}, "signature_name": "serving_default"}
    assert predict(api, columns, target) == {"outputs": class_ids}


def test_several_outputs_come_by_name(api: RestApi, class_ids: list[Any]) -> None:
    body = {"signature_name": "confidence", "instances": IMAGES.tolist()}
    rows = predict(api, body)["predictions"]
    assert [row["class_ids"] for row in rows] == class_ids
    assert np.array([row["confidence"] for row in rows]).shape == IMAGES.shape[:3]


def test_images_may_come_as_base64(api: RestApi, class_ids: list[Any]) -> None:
    pngs = [base64.b64encode(tf.io.encode_png(image).numpy()).decode() for image in IMAGES]
    body = {"signature_name": "encoded", "instances": [{"b64": png} for png in pngs]}
    reply = ask(api, "POST", f"{MODEL}:predict", body)
    masks = json.loads(reply.body.decode("latin-1"))["predictions"]
    decoded = [tf.io.decode_png(mask.encode("latin-1")).numpy()[..., 0] for mask in masks]
    assert np.array(decoded).tolist() == class_ids


def test_describe_takes_strings(api: RestApi) -> None:
    body = {"signature_name": "describe", "instances": [""]}
    (text,) = predict(api, body)["predictions"]
    assert json.loads(text)["architecture"] == "tiny"


def test_a_body_may_be_compressed(api: RestApi, class_ids: list[Any]) -> None:
    body = gzip.compress(json.dumps({"instances": IMAGES.tolist()}).encode())
    assert predict(api, body, content_encoding="gzip") == {"predictions": class_ids}


GOOD_GZIP = gzip.compress(b'{"instances": [1]}', mtime=0)


@pytest.mark.parametrize(
    "body",
    [
        b"no gzip",
        b"x",
        GOOD_GZIP[:-5],
        GOOD_GZIP[:-4],
        GOOD_GZIP + b"more",
        GOOD_GZIP + GOOD_GZIP,
        GOOD_GZIP[:-8] + b"0000" + GOOD_GZIP[-4:],  # another checksum
        GOOD_GZIP[:-4] + b"\1\0\0\0",  # a smaller size
        GOOD_GZIP[:-4] + b"\xff\0\0\0",  # a larger one
        gzip.compress(b"", mtime=0),
    ],
)
def test_what_does_not_uncompress_is_an_empty_body(api: RestApi, body: bytes) -> None:
    reply = ask(api, "POST", f"{MODEL}:predict", body, content_encoding="gzip")
    assert error(reply) == "JSON Parse error: The document is empty"


def test_a_bomb_is_not_uncompressed(api: RestApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "MAX_BODY_BYTES", 1000)
    for size, message in (
        (1000, "Is not object"),
        (1001, "JSON Parse error: The document is empty"),
        (10**7, "JSON Parse error: The document is empty"),
    ):
        body = gzip.compress(b'"' + b"0" * (size - 2) + b'"', mtime=0)
        reply = ask(api, "POST", f"{MODEL}:predict", body, content_encoding="gzip")
        assert message in error(reply)


@pytest.mark.parametrize("target", [MODEL, f"{MODEL}/versions/1", f"{MODEL}/labels/ignored"])
def test_status(api: RestApi, target: str) -> None:
    reply = ask(api, "GET", target, b"a body that nobody reads")
    assert (reply.status, reply.headers) == (200, (("Content-Type", "application/json"),))
    assert json.loads(reply.body) == {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


@pytest.mark.parametrize("target", [f"{MODEL}/metadata", f"{MODEL}/versions/1/metadata"])
def test_metadata(api: RestApi, target: str) -> None:
    document = json.loads(ask(api, "GET", target).body)
    assert document["model_spec"] == {"name": "segkit", "signature_name": "", "version": "1"}
    signatures = document["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "confidence", "encoded", "describe"} <= set(signatures)
    image = signatures["serving_default"]["inputs"]["image"]
    assert [dim["size"] for dim in image["tensor_shape"]["dim"]] == ["-1", "64", "96", "3"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/"),
        ("GET", "/v1/foo"),
        ("GET", "/v1/models/a/b"),
        ("GET", f"{MODEL}:predict"),
        ("GET", f"{MODEL}/versions/x"),
        ("GET", f"{MODEL}/metadata?x=1"),
        ("POST", "/v1/models"),
        ("POST", MODEL),
        ("POST", f"{MODEL}/metadata"),
        ("POST", f"{MODEL}:explain"),
        ("POST", f"{MODEL}:PREDICT"),
        ("POST", f"{MODEL}:predict?x=1"),
        ("POST", f"{MODEL}:predict#x"),
        ("POST", f"{MODEL}/versions/1/labels/x:predict"),
        ("POST", f"{MODEL}/versions/-1:predict"),
        ("PUT", f"{MODEL}:predict"),
        ("DELETE", MODEL),
        ("PATCH", MODEL),
        ("HEAD", MODEL),
    ],
)
def test_malformed_requests(api: RestApi, method: str, target: str) -> None:
    assert error(ask(api, method, target, b"{}")) == f"Malformed request: {method} {target}"


@pytest.mark.parametrize("target", ["/", "/v1", "/v2/models/x", "/index.html", "", METRICS + "/"])
def test_what_is_no_api_is_not_found(api: RestApi, target: str) -> None:
    assert ask(api, "GET", target) == error_page(404)


BODY = {"instances": [[[0]]]}


@pytest.mark.parametrize(
    ("method", "target", "status", "message"),
    [
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/models/x", 404, "Could not find any versions of model x"),
        ("GET", f"{MODEL}?x=1", 404, "Could not find any versions of model segkit?x=1"),
        ("GET", f"{MODEL}/versions/9", 404, "Could not find version 9 of model segkit"),
        ("GET", "/v1/models/x/metadata", 404, "Servable not found for request: Latest(x)"),
        (
            "GET",
            f"{MODEL}/labels/x/metadata",
            400,
            "Unrecognized servable version label: x",
        ),
        (
            "POST",
            f"{MODEL}/versions/9:predict",
            404,
            "Servable not found for request: Specific(segkit, 9)",
        ),
        (
            "POST",
            f"{MODEL}/labels/a%2Fb:predict",
            400,
            "Unrecognized servable version label: a/b",
        ),
        (
            "POST",
            f"{MODEL}/versions/9223372036854775808:predict",
            400,
            "Failed to convert version: 9223372036854775808 to numeric.",
        ),
        (
            "GET",
            f"{MODEL}/versions/{'9' * 5000}",
            400,
            f"Failed to convert version: {'9' * 5000} to numeric.",
        ),
        (
            "GET",
            "/v1/models/x/versions/9223372036854775807",
            404,
            "Could not find version 9223372036854775807 of model x",
        ),
    ],
)
def test_what_is_not_there(
    api: RestApi, method: str, target: str, status: int, message: str
) -> None:
    assert error(ask(api, method, target, BODY), status) == message


def test_a_bad_body_comes_before_a_missing_model(api: RestApi) -> None:
    for method in ("predict", "classify", "regress"):
        reply = ask(api, "POST", f"/v1/models/x:{method}", b"{")
        assert error(reply) == "JSON Parse error: Missing a name for object member. at offset: 1"


def test_errors_of_the_request_and_of_the_model(api: RestApi) -> None:
    def refused(body: Any) -> str:
        return error(ask(api, "POST", f"{MODEL}:predict", body))

    assert refused(b"") == "JSON Parse error: The document is empty"
    assert refused({"signature_name": "x", **BODY}) == (
        'Serving signature name: "x" not found in signature def'
    )
    assert refused({"inputs": ["a"]}) == (
        'JSON Value: "a" Type: String is not of expected type: uint8'
    )
    assert "[1,1,1] is not compatible with expected shape [?,64,96,3]" in refused(BODY)


@pytest.mark.parametrize(
    ("method", "noun"), [("classify", "classification"), ("regress", "regression")]
)
def test_examples_are_refused(
    api: RestApi, services: ModelServices, method: str, noun: str
) -> None:
    def refused(body: Any, api: RestApi = api, status: int = 400, model: str = MODEL) -> str:
        return error(ask(api, "POST", f"{model}:{method}", body), status)

    good = {"examples": [{"x": 1.5}]}
    assert refused({}).endswith("key 'examples' is expected and was not found")
    assert refused({"signature_name": 1, **good}).endswith("must be a string value.")
    assert refused({"signature_name": "x", **good}) == "No signature was found with the name: x"
    assert refused(good).startswith(f"No {noun} inputs found in SignatureDef: inputs {{\n")
    assert refused(good, status=404, model="/v1/models/x") == (
        "Servable not found for request: Latest(x)"
    )
    strict = RestApi(services, check_method_name=True)
    assert refused(good, strict) == (
        f"Expected {noun} signature method_name to be tensorflow/serving/{method}. "
        "Was: tensorflow/serving/predict"
    )


def test_browsers_are_let_in_where_it_is_wanted(api: RestApi, services: ModelServices) -> None:
    cors = {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "POST, GET",
        "Access-Control-Allow-Headers": "Content-Type",
    }
    open_api = RestApi(services, cors=True)
    for target in (MODEL, "/v1/models/x"):
        assert dict(ask(open_api, "GET", target).headers).items() >= cors.items()
        assert not dict(ask(api, "GET", target).headers).keys() & cors.keys()
    preflight = ask(open_api, "OPTIONS", MODEL, origin="https://example.org")
    assert (preflight.status, preflight.body) == (200, b"")
    assert dict(preflight.headers).items() >= cors.items()


@pytest.mark.parametrize("headers", [{}, {"origin": "example.org"}])
def test_options_needs_an_origin(api: RestApi, headers: dict[str, str]) -> None:
    reply = ask(api, "OPTIONS", f"{MODEL}:predict", **headers)
    assert (reply.status, reply.body) == (400, b"")


def test_metrics_are_at_exactly_their_path(api: RestApi, services: ModelServices) -> None:
    assert ask(api, "GET", METRICS) == Reply(
        200, (("Content-Type", "text/plain"),), b"# no metrics\n"
    )
    assert ask(api, "GET", f"{METRICS}?a=b") == Reply(
        400,
        (("Content-Type", "text/plain"),),
        f"Unexpected path: {METRICS}?a=b. Should be {METRICS}".encode(),
    )
    assert ask(RestApi(services), "GET", METRICS) == error_page(404)


def test_a_prediction_has_so_much_time(services: ModelServices, monkeypatch: Any) -> None:
    from segkit.serving.servable import Servable

    given: list[float | None] = []

    def run(self: Any, name: str, inputs: Any, *, timeout_s: float | None = None) -> Any:
        given.append(timeout_s)
        raise StatusError(Code.DEADLINE_EXCEEDED, "too late")

    monkeypatch.setattr(Servable, "run", run)
    for timeout_s in (2.5, 0.0):
        reply = ask(RestApi(services, timeout_s=timeout_s), "POST", f"{MODEL}:predict", BODY)
        assert error(reply, 504) == "too late"
    assert given == [2.5, None]


def test_a_signature_that_the_engine_does_not_run(
    services: ModelServices, api: RestApi, monkeypatch: Any
) -> None:
    with services.models.hold(rest._model_spec(rest._Route(model="segkit"))) as servable:
        monkeypatch.delitem(servable.engine.signatures, "confidence")
    body = {"signature_name": "confidence", "instances": IMAGES.tolist()}
    assert error(ask(api, "POST", f"{MODEL}:predict", body)) == (
        'Serving signature key "confidence" not found.'
    )
