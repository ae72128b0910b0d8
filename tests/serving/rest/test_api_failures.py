"""The REST API over services that fail: statuses, bodies, what is logged and counted."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

import pytest
from rest_requests import MODEL, ask, error

from segkit.engines import Code, StatusError
from segkit.serving.rest.api import RestApi


class Broken:
    """Services of which each method fails."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure
        self.observed: list[tuple[str, str, str, Code]] = []
        self.models = self

    def hold(self, spec: Any) -> AbstractContextManager[Any]:
        raise self.failure

    def model_status(self, spec: Any) -> Any:
        raise self.failure

    def model_metadata(self, spec: Any, fields: Any) -> Any:
        raise self.failure

    def observe(self, model: str, api: str, entrypoint: str, code: Code, seconds: float) -> None:
        assert 0 <= seconds < 60
        self.observed.append((model, api, entrypoint, code))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.INVALID_ARGUMENT, 400),
        (Code.FAILED_PRECONDITION, 400),
        (Code.OUT_OF_RANGE, 400),
        (Code.UNAUTHENTICATED, 401),
        (Code.PERMISSION_DENIED, 403),
        (Code.NOT_FOUND, 404),
        (Code.ALREADY_EXISTS, 409),
        (Code.ABORTED, 409),
        (Code.RESOURCE_EXHAUSTED, 429),
        (Code.CANCELLED, 499),
        (Code.UNKNOWN, 500),
        (Code.INTERNAL, 500),
        (Code.DATA_LOSS, 500),
        (Code.UNIMPLEMENTED, 501),
        (Code.UNAVAILABLE, 503),
        (Code.DEADLINE_EXCEEDED, 504),
    ],
)
def test_each_code_has_a_status(code: Code, status: int) -> None:
    services = Broken(StatusError(code, "why"))
    api = RestApi(services)
    for method, target in (
        ("POST", f"{MODEL}:predict"),
        ("GET", MODEL),
        ("GET", f"{MODEL}/metadata"),
    ):
        assert error(ask(api, method, target, {"instances": [1]}), status) == "why"
    assert services.observed == [
        ("segkit", "predict", "REST", code),
        ("segkit", "", "REST", code),
        ("segkit", "", "REST", code),
    ]


def test_a_bug_is_an_internal_error_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    services = Broken(KeyError("x"))
    with caplog.at_level(logging.ERROR):
        reply = ask(RestApi(services), "POST", f"{MODEL}:predict", {"instances": [1]})
    assert error(reply, 500) == "KeyError: 'x'"
    assert "Traceback" in caplog.text
    assert services.observed == [("segkit", "predict", "REST", Code.INTERNAL)]


def test_requests_are_counted_under_the_name_that_they_give() -> None:
    services = Broken(StatusError(Code.NOT_FOUND, ""))
    api = RestApi(services)
    for method, target in (
        ("POST", "/v1/models/a%20b/versions/99999999999999999999:predict"),
        ("POST", "/v1/models/x:classify"),
        ("GET", "/v1/foo"),
        ("DELETE", MODEL),
    ):
        ask(api, method, target, b"{}")
    ask(api, "OPTIONS", MODEL, origin="http://x")
    ask(api, "GET", "/not/counted")
    assert services.observed == [
        ("a b", "predict", "REST", Code.INVALID_ARGUMENT),
        ("x", "classify", "REST", Code.INVALID_ARGUMENT),
        ("", "", "REST", Code.INVALID_ARGUMENT),
        ("", "", "REST", Code.INVALID_ARGUMENT),
        ("", "", "REST", Code.OK),
    ]
