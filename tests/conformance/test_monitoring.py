"""The health service, and the metrics page of Prometheus."""

from __future__ import annotations

import re
from typing import Any

import grpc
import pytest
from conformance_server import METRICS_PATH, Target, call, counter, send_http
from grpc_cases import UNDECODABLE
from grpc_requests import PREDICT, predict_request

HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
SERVING, SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x03"  # HealthCheckResponse: its status in field 1
REQUESTS = ":tensorflow:serving:request_count"
REQUEST_LATENCY = ":tensorflow:serving:request_latency"
RUNTIME_LATENCY = ":tensorflow:serving:runtime_latency"
WARMUP_LATENCY = ":tensorflow:serving:model_warmup_latency"
FINITE_BUCKETS = 33


def health_request(service: str) -> bytes:
    """A HealthCheckRequest: the service's name in field 1."""
    return b"\x0a" + bytes([len(service)]) + service.encode() if service else b""


@pytest.mark.parametrize("service", ["", "ModelService", "PredictionService"])
def test_the_health_service_knows_three_names(channel: grpc.Channel, service: str) -> None:
    assert call(channel, HEALTH, health_request(service)) == SERVING


@pytest.mark.parametrize("service", ["x", "tensorflow.serving.PredictionService"])
def test_the_health_service_knows_no_other_name(channel: grpc.Channel, service: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, HEALTH, health_request(service))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("service", "state"),
    [("", SERVING), ("PredictionService", SERVING), ("x", SERVICE_UNKNOWN)],
)
def test_health_may_be_watched(channel: grpc.Channel, service: str, state: bytes) -> None:
    watch = channel.unary_stream(WATCH)(health_request(service), timeout=30)
    assert next(watch) == state
    watch.cancel()


@pytest.mark.xfail(
    strict=True, reason="grpcio's health service answers INTERNAL, with a text of its own"
)
def test_the_health_service_refuses_what_it_cannot_read(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, HEALTH, UNDECODABLE)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_there_is_no_health_service_unless_it_is_wanted(bare_channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(bare_channel, HEALTH, b"")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "")


def test_there_is_no_metrics_page_unless_it_is_wanted(bare_target: Target) -> None:
    if not bare_target.rest:
        pytest.skip("needs --bare_rest")
    assert send_http(bare_target.rest, "GET", METRICS_PATH).status == 404


def test_the_metrics_page_is_plain_text(rest: str) -> None:
    reply = send_http(rest, "GET", METRICS_PATH)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/plain")
    lines = reply.body.decode().split("\n")
    assert lines[-1] == ""
    for line in lines[:-1]:
        assert re.fullmatch(
            r"# TYPE :?\w[\w:]* (counter|gauge|histogram|untyped)"
            r"|:?\w[\w:]*\{(\w+=\"(\\.|[^\"\\])*\",?)*\} [-+.\de]+",
            line,
        ), line


def test_the_metrics_page_takes_no_query(rest: str) -> None:
    reply = send_http(rest, "GET", METRICS_PATH + "?x=1")
    assert (reply.status, reply.headers["Content-Type"]) == (400, "text/plain")
    assert reply.body.decode() == f"Unexpected path: {METRICS_PATH}?x=1. Should be {METRICS_PATH}"


@pytest.mark.parametrize("outcome", ["OK", "FAILED_PRECONDITION"])
def test_a_request_over_grpc_is_counted(
    channel: grpc.Channel, target: Target, rest: str, outcome: str
) -> None:
    served: dict[str, Any] = {"model_name": target.model_name}
    wanted = {
        (REQUESTS, "status"): served | {"status": outcome},
        (f"{REQUEST_LATENCY}_count", "API"): served | {"API": "Predict", "entrypoint": "GRPC"},
        (f"{RUNTIME_LATENCY}_count", "API"): served | {"API": "Predict", "runtime": "TF1"},
    }
    assert call(channel, PREDICT, predict_request(target.model_name))  # so that there is a first
    before = [counter(rest, name, labels) for (name, _), labels in wanted.items()]
    if outcome == "OK":
        call(channel, PREDICT, predict_request(target.model_name))
    else:
        with pytest.raises(grpc.RpcError):
            call(channel, PREDICT, predict_request(target.model_name, signature="x"))
    after = [counter(rest, name, labels) for (name, _), labels in wanted.items()]
    # Only what succeeds has a latency.
    assert [b - a for a, b in zip(before, after, strict=True)] == (
        [1, 1, 1] if outcome == "OK" else [1, 0, 0]
    )


@pytest.mark.parametrize(
    ("path", "status", "api"),
    [(":predict", "INVALID_ARGUMENT", "predict"), ("", "OK", ""), ("/metadata", "OK", "")],
)
def test_a_request_over_rest_is_counted(
    target: Target, rest: str, path: str, status: str, api: str
) -> None:
    def counts() -> list[float]:
        served = {"model_name": target.model_name}
        latency = served | {"API": api, "entrypoint": "REST"}
        return [
            counter(rest, REQUESTS, served | {"status": status}),
            counter(rest, f"{REQUEST_LATENCY}_count", latency),
        ]

    before = counts()
    send_http(rest, "POST" if api else "GET", f"/v1/models/{target.model_name}{path}")
    assert [b - a for a, b in zip(before, counts(), strict=True)] == [1, 1 if status == "OK" else 0]


def test_a_latency_is_a_histogram_of_microseconds(
    channel: grpc.Channel, target: Target, rest: str
) -> None:
    assert call(channel, PREDICT, predict_request(target.model_name))
    page = send_http(rest, "GET", METRICS_PATH).body.decode()
    assert f"# TYPE {REQUESTS} counter\n" in page
    assert f"# TYPE {REQUEST_LATENCY} histogram\n" in page
    labels = f'model_name="{target.model_name}",API="Predict",entrypoint="GRPC"'
    buckets = re.findall(
        rf'^{REQUEST_LATENCY}_bucket\{{{labels},le="([^"]+)"\}} (\d+)$', page, re.MULTILINE
    )
    limits, counts = [limit for limit, _ in buckets], [int(count) for _, count in buckets]
    assert limits == [f"{10 * 1.8**k:g}" for k in range(FINITE_BUCKETS)] + ["+Inf"]
    assert counts == sorted(counts)
    assert counts[-1] == counter(
        rest,
        f"{REQUEST_LATENCY}_count",
        {"model_name": target.model_name, "API": "Predict", "entrypoint": "GRPC"},
    )
    assert re.search(rf"^{REQUEST_LATENCY}_sum\{{{labels}\}} [\d.e+]+$", page, re.MULTILINE)


def test_the_warm_up_of_a_version_is_counted(target: Target, rest: str) -> None:
    page = send_http(rest, "GET", METRICS_PATH).body.decode()
    paths = re.findall(
        rf'^{WARMUP_LATENCY}_count\{{model_path="([^"]+)",status="OK"\}} \d+$', page, re.MULTILINE
    )
    base_path = target.root / target.model_name
    assert {str(base_path / "1"), str(base_path / "2")} <= set(paths)
