from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from segkit.errors import ConfigError
from segkit.serving.grpc_server import (
    create_grpc_server,
    parse_channel_arguments,
    server_credentials,
)
from segkit.serving.server import ModelServer
from segkit.serving.server_config_pb2 import SSLConfig

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
PATIENCE_SECONDS = 30


class Slow:
    """A method that answers when it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, raw: bytes, timeout_s: float | None) -> bytes:
        self.entered.release()
        assert self.go.wait(PATIENCE_SECONDS)
        return b"answered"


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def channel(slow: Slow) -> Iterator[grpc.Channel]:
    """To a server of two predictions at a time."""
    methods = {PREDICT: slow, STATUS: lambda raw, timeout_s: b"fine"}
    server = create_grpc_server(methods, model_names=list, max_threads=2)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    slow.go.set()
    server.stop(None).wait()


def test_more_predictions_than_threads_are_refused_at_once(
    channel: grpc.Channel, slow: Slow
) -> None:
    predict = channel.unary_unary(PREDICT)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(predict, b"", timeout=PATIENCE_SECONDS) for _ in range(2)]
        for _ in running:
            assert slow.entered.acquire(timeout=PATIENCE_SECONDS)
        with pytest.raises(grpc.RpcError) as caught:
            predict(b"", timeout=PATIENCE_SECONDS)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == "Server Threadpool Exhausted"
        assert channel.unary_unary(STATUS)(b"", timeout=PATIENCE_SECONDS) == b"fine"
        slow.go.set()
        assert [future.result() for future in running] == [b"answered"] * 2
    assert predict(b"", timeout=PATIENCE_SECONDS) == b"answered"


def test_a_flood_is_refused_and_leaves_the_server_well(channel: grpc.Channel, slow: Slow) -> None:
    predict = channel.unary_unary(PREDICT)
    futures = [predict.future(b"", timeout=PATIENCE_SECONDS) for _ in range(200)]
    for _ in range(2):
        assert slow.entered.acquire(timeout=PATIENCE_SECONDS)
    refused = sum(isinstance(x.exception(), grpc.RpcError) for x in futures[20:])
    slow.go.set()
    codes = {x.exception().code() for x in futures if x.exception()}
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert refused >= 178
    assert predict(b"", timeout=PATIENCE_SECONDS) == b"answered"


def health(channel: grpc.Channel, service: str) -> Any:
    stub = health_pb2_grpc.HealthStub(channel)
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_SECONDS)


def test_health_is_answered_where_it_is_asked_for(tiny_export: Path) -> None:
    with (
        ModelServer.of("segkit", tiny_export, health_service=True) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        for service in ("", "ModelService", "PredictionService"):
            assert health(channel, service).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health(channel, "tensorflow.serving.PredictionService")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_is_unimplemented_by_default(running_server: str) -> None:
    with grpc.insecure_channel(running_server) as channel, pytest.raises(grpc.RpcError) as caught:
        health(channel, "")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "")


def test_a_unix_socket_is_served_as_well(tiny_export: Path, tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    with (
        ModelServer.of("segkit", tiny_export, socket_path=str(path)) as server,
        grpc.insecure_channel(f"unix:{path}") as channel,
    ):
        request = b"\x0a\x08\x0a\x06segkit"  # model_spec { name: "segkit" }
        replies = {
            channel.unary_unary(STATUS)(request, timeout=PATIENCE_SECONDS),
            grpc.insecure_channel(server.address).unary_unary(STATUS)(
                request, timeout=PATIENCE_SECONDS
            ),
        }
        assert len(replies) == 1


def test_channel_arguments_are_numbers_where_they_can_be() -> None:
    assert parse_channel_arguments("") == []
    assert parse_channel_arguments("grpc.max_connection_age_ms=2000,grpc.x=a=b") == [
        ("grpc.max_connection_age_ms", 2000),
        ("grpc.x", "a=b"),
    ]
    with pytest.raises(ConfigError, match="--grpc_channel_arguments has 'grpc.x'"):
        parse_channel_arguments("grpc.x")


def test_tls_needs_a_key_and_a_certificate() -> None:
    with pytest.raises(ConfigError, match="no server_key or no server_cert"):
        server_credentials(SSLConfig(server_key="x"))
