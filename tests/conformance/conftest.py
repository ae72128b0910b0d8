"""The servers of the conformance tests, see docs/conformance.md."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from conformance_export import BARE, MODEL_NAME, write_export
from conformance_server import Target, configured_flags, embedded_server
from reloading import AVAILABLE, END, Server, wait_until

UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
HELP = {
    "--server": "host:port of a running server to test instead of the embedded one: gRPC",
    "--rest": "its REST API",
    "--model_name": "the model of the contract; default: segkit",
    "--base_path": "the folder that conformance_export.py wrote, as the server sees it",
    "--bare_server": "host:port of one that was started without its optional flags: gRPC",
    "--bare_rest": "its REST API",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "the server under test")
    for option, text in HELP.items():
        group.addoption(option, default="", help=text)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("server", default="") and not config.getoption("base_path", default=""):
        raise pytest.UsageError("--server needs --base_path, see docs/conformance.md")


@pytest.fixture(scope="session")
def option(pytestconfig: pytest.Config) -> Callable[[str], str]:
    """The value of an option; "" too where pytest runs more than this folder and knows none."""
    return lambda name: str(pytestconfig.getoption(name, default=""))


@pytest.fixture(scope="session")
def model_name(option: Callable[[str], str]) -> str:
    return option("model_name") or MODEL_NAME


@pytest.fixture(scope="session")
def export_root(
    option: Callable[[str], str], model_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of all models, as the server sees it."""
    if option("server"):
        return Path(option("base_path"))
    root: Path = tmp_path_factory.mktemp("conformance")
    write_export(root, model_name=model_name)
    return root


@pytest.fixture(scope="session")
def target(
    option: Callable[[str], str], model_name: str, export_root: Path, tmp_path_factory: Any
) -> Iterator[Target]:
    """The server that most tests are about: two models, metrics, health service, CORS."""
    if option("server"):
        yield Target(option("server"), option("rest"), model_name, export_root)
        return
    log = tmp_path_factory.mktemp("log") / "server.log"
    flags, models = configured_flags(export_root), (model_name, BARE)
    with embedded_server(flags, model_name, export_root, models=models, log=log) as started:
        yield started


@pytest.fixture(scope="session")
def bare_target(
    option: Callable[[str], str], model_name: str, export_root: Path, tmp_path_factory: Any
) -> Iterator[Target]:
    """One model and nothing optional, but signatures are held to their method."""
    if option("server"):
        if not option("bare_server"):
            pytest.skip("needs --bare_server, see docs/conformance.md")
        yield Target(option("bare_server"), option("bare_rest"), model_name, export_root)
        return
    log = tmp_path_factory.mktemp("log") / "bare.log"
    flags = (
        f"--model_name={model_name}",
        f"--model_base_path={export_root / model_name}",
        "--enable_signature_method_name_check=true",
    )
    with embedded_server(flags, model_name, export_root, models=[model_name], log=log) as started:
        yield started


@pytest.fixture(scope="session")
def channel(target: Target) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(target.grpc, UNLIMITED) as channel:
        yield channel


@pytest.fixture(scope="session")
def bare_channel(bare_target: Target) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(bare_target.grpc, UNLIMITED) as channel:
        yield channel


@pytest.fixture(scope="session")
def rest(target: Target) -> str:
    """Host and port of the REST API."""
    if not target.rest:
        pytest.skip("needs --rest, the address of the server's REST API")
    return target.rest


@pytest.fixture
def server(channel: grpc.Channel, target: Target) -> Iterator[Server]:
    """The server; afterwards it serves again what the other tests expect."""
    server = Server(channel, target)
    server.wait({1: AVAILABLE, 2: AVAILABLE})
    yield server
    server.reload(server.config(1, 2), server.bare)
    server.wait({1: AVAILABLE, 2: AVAILABLE})
    wait_until(lambda: server.states().get(3, END) == END, "version 3 has gone")


@pytest.fixture(scope="session")
def ovmsclient_python() -> str:
    return _environment("SEGKIT_OVMSCLIENT_PYTHON", "ovmsclient 2023.1")


@pytest.fixture(scope="session")
def perf_analyzer() -> str:
    return _environment("SEGKIT_PERF_ANALYZER", "perf_analyzer 2.41")


def _environment(variable: str, what: str) -> str:
    path = os.environ.get(variable, "")
    if not path:
        pytest.skip(f"{what} is not installed: tests/conformance/make_client_environments.sh")
    return path
