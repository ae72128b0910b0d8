"""The server that the tests ask: segkit's own as a process here, or any other by its address."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from conformance_export import MODELS_CONFIG, MONITORING_CONFIG
from grpc_requests import GET_MODEL_STATUS, status_request
from tensorflow_serving.apis import get_model_status_pb2

__all__ = [
    "METRICS_PATH",
    "HttpReply",
    "Target",
    "call",
    "configured_flags",
    "counter",
    "embedded_server",
    "model_states",
    "send_http",
]

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60
METRICS_PATH = "/monitoring/prometheus/metrics"


@dataclass(frozen=True)
class Target:
    """A server under test.

    Args:
        grpc: Host and port for gRPC.
        rest: Host and port for REST; "" where it is not known.
        model_name: The model of the contract.
        root: The folder of all models, as the server sees it.
        is_embedded: Whether it is segkit's own, which knows what kills tensorflow/serving.
        first_states: Model -> the states of its versions when the port opened, the newest first,
            where the tests started the server themselves.
    """

    grpc: str
    rest: str
    model_name: str
    root: Path
    is_embedded: bool = False
    first_states: Mapping[str, list[int]] = field(default_factory=dict)


class HttpReply(NamedTuple):
    """A reply over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def configured_flags(root: Path) -> tuple[str, ...]:
    """The flags of tensorflow_model_server, ports aside, that most tests are about."""
    return (
        f"--model_config_file={root / MODELS_CONFIG}",
        f"--monitoring_config_file={root / MONITORING_CONFIG}",
        "--enable_grpc_healthcheck_service=true",
        "--rest_api_enable_cors_support=true",
        "--enable_profiler=false",
    )


def call(channel: grpc.Channel, method: str, request: Any, *, timeout: float = 30) -> bytes:
    """Calls a unary method with a message, or with bytes as they are.

    Raises:
        grpc.RpcError: The server refuses.
    """
    raw = request if isinstance(request, bytes) else request.SerializeToString()
    reply: bytes = channel.unary_unary(method)(raw, timeout=timeout)
    return reply


def model_states(channel: grpc.Channel, name: str, **spec: Any) -> list[tuple[int, int]]:
    """Version and state of each version of a model, in the order of the reply."""
    raw = call(channel, GET_MODEL_STATUS, status_request(name, **spec))
    reply = get_model_status_pb2.GetModelStatusResponse.FromString(raw)
    return [(entry.version, entry.state) for entry in reply.model_version_status]


def send_http(
    address: str,
    method: str,
    path: str,
    body: bytes | str | None = None,
    headers: Mapping[str, str] | None = None,
) -> HttpReply:
    """Sends one HTTP request on a connection of its own."""
    host, _, port = address.rpartition(":")
    with contextlib.closing(HTTPConnection(host, int(port), PATIENCE_SECONDS)) as connection:
        connection.request(method, path, body, dict(headers or {}))
        reply = connection.getresponse()
        return HttpReply(reply.status, dict(reply.getheaders()), reply.read())


def counter(rest: str, name: str, labels: Mapping[str, str]) -> float:
    """A counter on the metrics page; 0 where it has not been counted yet."""
    page = send_http(rest, "GET", METRICS_PATH).body.decode()
    wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
    values = re.findall(rf"^{re.escape(name)}\{{{re.escape(wanted)}\}} (\S+)$", page, re.MULTILINE)
    return float(values[0]) if values else 0.0


@contextlib.contextmanager
def embedded_server(
    flags: Sequence[str], model_name: str, root: Path, *, models: Sequence[str], log: Path
) -> Iterator[Target]:
    """`python -m segkit serve` until the block ends.

    Args:
        flags: Its flags, ports aside.
        model_name: The model of the contract.
        root: The folder of all models.
        models: The models that it serves from the start.
        log: Where to write what it prints.
    """
    ports = _free_port(), _free_port()
    command = [sys.executable, "-m", "segkit", "serve", *flags]
    command += [f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
    command += ["--file_system_poll_wait_seconds=0.1"]
    address, rest = (f"127.0.0.1:{port}" for port in ports)
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=output) as process,
    ):
        try:
            _wait_until_open(ports[0], process, log)
            with grpc.insecure_channel(address) as channel:
                states = {name: [s for _, s in model_states(channel, name)] for name in models}
            yield Target(address, rest, model_name, root, True, states)
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError(f"the server did not open its port:\n{log.read_text(errors='replace')}")
