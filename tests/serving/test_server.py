from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from segkit.errors import ConfigError, ExportError
from segkit.serving.server import ModelServer

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 120


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def answers(address: str) -> bool:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "segkit"
    with grpc.insecure_channel(address) as channel:
        reply = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=30)
    return bool(reply.model_version_status)


def test_a_started_server_says_what_it_serves(tiny_export: Path) -> None:
    server = ModelServer.of("segkit", tiny_export)
    with server:
        assert re.fullmatch(r"127\.0\.0\.1:\d+", server.address)
        assert server.versions == {"segkit": [1]}
        assert server.describe() == [
            f"serving segkit version 1 on {server.address} (gRPC, engine tensorflow:float32)"
        ]
        assert answers(server.address)
        port = int(server.address.rpartition(":")[2])
    assert not is_open(port)
    server.stop()  # once more does no harm


def test_the_port_opens_when_the_first_version_has_loaded(
    tiny_export: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    server = ModelServer.of("segkit", tmp_path, port=port, poll_seconds=0.05)
    starting = threading.Thread(target=server.start)
    starting.start()
    while "No versions of servable segkit found" not in caplog.text:
        time.sleep(0.02)
    assert starting.is_alive() and not is_open(port)
    shutil.copytree(tiny_export / "1", tmp_path / ".incoming")
    os.rename(tmp_path / ".incoming", tmp_path / "1")
    starting.join(PATIENCE_SECONDS)
    assert answers(f"127.0.0.1:{port}")
    server.stop()


def test_a_waiting_server_can_be_stopped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = ModelServer.of("segkit", tmp_path, poll_seconds=0.05)
    caught: list[BaseException] = []

    def start() -> None:
        try:
            server.start()
        except ExportError as err:
            caught.append(err)

    starting = threading.Thread(target=start)
    starting.start()
    while "No versions of servable segkit found" not in caplog.text:
        time.sleep(0.02)
    server.stop()
    starting.join(PATIENCE_SECONDS)
    assert not starting.is_alive()
    assert len(caught) == 1


def test_a_first_version_that_fails_is_an_error(tiny_export: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_export / "1", tmp_path / "1")
    shutil.rmtree(tmp_path / "1" / "variables")
    with pytest.raises(ExportError, match=r"version 1: .* cannot be loaded") as caught:
        ModelServer.of("segkit", tmp_path).start()
    assert "publish the model again" in caught.value.next_step


def test_looking_once_at_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no version in") as caught:
        ModelServer.of("segkit", tmp_path, poll_seconds=0).start()
    assert "segkit export" in caught.value.next_step


def test_a_base_path_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"base path .* does not exist") as caught:
        ModelServer.of("segkit", tmp_path / "typo").start()
    assert "segkit export" in caught.value.next_step


def test_a_version_folder_for_a_base_path_is_an_error(tiny_export: Path) -> None:
    with pytest.raises(ConfigError, match="is itself a version") as caught:
        ModelServer.of("segkit", tiny_export / "1").start()
    assert str(tiny_export) in caught.value.next_step


def test_a_port_in_use_is_an_error_before_anything_is_loaded(
    tiny_export: Path, busy_port: int
) -> None:
    server = ModelServer.of("segkit", tiny_export, port=busy_port)
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{busy_port}: ") as caught:
        server.start()
    assert "--port" in caught.value.next_step
    assert server.versions == {}


def test_a_busy_rest_port_names_its_own_flag(tiny_export: Path, busy_port: int) -> None:
    server = ModelServer.of("segkit", tiny_export, rest_port=busy_port)
    with pytest.raises(ConfigError, match="cannot listen on") as caught:
        server.start()
    assert "--rest_api_port" in caught.value.next_step
    assert server.versions == {}


def test_an_unknown_engine_is_an_error(tiny_export: Path) -> None:
    with pytest.raises(ConfigError, match="there is no engine 'x'"):
        ModelServer.of("segkit", tiny_export, engine="x")


class Process:
    """`python -m segkit serve`, with its lines as they come."""

    def __init__(self, *flags: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "segkit", "serve", *flags],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []

    def read_until(self, text: str) -> str:
        assert self.popen.stdout
        for line in self.popen.stdout:
            self.lines.append(line.rstrip())
            if text in line:
                return line
        raise AssertionError(f"'{text}' never came: {self.lines}")

    def end(self, number: int) -> int:
        self.popen.send_signal(number)
        rest, _ = self.popen.communicate(timeout=PATIENCE_SECONDS)
        self.lines += rest.splitlines()
        return self.popen.returncode


def serve_flags(base_path: Path) -> tuple[str, ...]:
    return ("--model_base_path", str(base_path), "--port", "0")


@pytest.mark.parametrize(("number", "exit_status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_serve_prints_where_it_serves_and_stops_cleanly(
    tiny_export: Path, number: int, exit_status: int
) -> None:
    process = Process(*serve_flags(tiny_export))
    ready = process.read_until("serving")
    found = re.fullmatch(
        r"serving segkit version 1 on (127\.0\.0\.1:\d+) \(gRPC, engine tensorflow:float32\)\n",
        ready,
    )
    assert found
    assert answers(found[1])
    assert process.end(number) == exit_status
    assert "stopped" in process.lines
    assert "INFO: model segkit version 1 is unloaded" in process.lines
    assert not [line for line in process.lines if "Traceback" in line or "WARNING" in line]


def test_serve_stops_while_it_waits_for_a_version(tmp_path: Path) -> None:
    process = Process(*serve_flags(tmp_path))
    process.read_until("No versions of servable segkit found under base path")
    assert process.end(signal.SIGINT) == 130
    assert not [line for line in process.lines if "Traceback" in line]


def test_serve_refuses_a_missing_base_path_and_a_busy_port(
    tmp_path: Path, tiny_export: Path, busy_port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    from segkit.__main__ import main

    for flags, words in (
        (serve_flags(tmp_path / "typo"), "does not exist"),
        (("--model_base_path", str(tiny_export), "--port", str(busy_port)), "cannot listen on"),
    ):
        assert main(["serve", *flags]) == 1
        error = capfd.readouterr().err
        assert error.startswith("segkit serve: error: ")
        assert words in error


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--port", "65536"),
        ("--model_name", ""),
        ("--file_system_poll_wait_seconds", "-1"),
        ("--grpc_max_threads", "0"),
    ],
)
def test_serve_names_a_flag_with_an_impossible_value(
    flag: str, value: str, tiny_export: Path, capsys: Any
) -> None:
    from segkit.__main__ import main

    assert main(["serve", "--model_base_path", str(tiny_export), flag, value]) == 1
    assert f"segkit serve: error: {flag} is " in capsys.readouterr().err
