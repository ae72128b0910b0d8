"""Serves published versions as tensorflow/serving does, on this machine, GPU or not.

New versions in the folder are picked up while it runs; the old one serves until then.
"""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from segkit import contract
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.serving.server import ModelServer

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the server, spelled as tensorflow_model_server spells them."""

    model_base_path: Path
    """the folder of numbered versions, as `segkit export` writes it"""
    model_name: str = contract.DEFAULT_MODEL_NAME
    """the name that clients ask for"""
    port: int = 8500
    """port for gRPC; 0 takes a free one"""
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 lets other machines in"""
    engine: str = "auto"
    """what runs the model: auto, tensorflow, openvino, tflite or onnx, perhaps with :PRECISION"""
    file_system_poll_wait_seconds: float = 1.0
    """seconds between two looks at the folder; 0 looks once"""
    grpc_max_threads: int | None = None
    """requests answered at the same time; 4 for each CPU by default"""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port is {self.port}", expected="0 to 65535")
        if not self.model_name:
            raise ConfigError("--model_name is empty", expected="a name, such as segkit")
        if self.file_system_poll_wait_seconds < 0:
            raise ConfigError(
                f"--file_system_poll_wait_seconds is {self.file_system_poll_wait_seconds}",
                expected="0 or more seconds",
            )
        if self.grpc_max_threads is not None and self.grpc_max_threads < 1:
            raise ConfigError(
                f"--grpc_max_threads is {self.grpc_max_threads}", expected="1 or more"
            )


def run(options: Options) -> None:
    """Serves until SIGINT (exit status 130) or SIGTERM (0)."""
    print(f"loading {options.model_name} from {options.model_base_path}", flush=True)
    from segkit.serving.server import ModelServer

    server = ModelServer(
        options.model_name,
        options.model_base_path,
        options.host,
        options.port,
        engine=options.engine,
        poll_seconds=options.file_system_poll_wait_seconds,
        max_threads=options.grpc_max_threads,
    )
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        server.start()
        _wait(server, options.model_name)
    finally:
        signal.signal(signal.SIGTERM, before)


def _wait(server: ModelServer, model_name: str) -> None:
    versions = ", ".join(map(str, server.versions))
    print(
        f"serving {model_name} version {versions} on {server.address} "
        f"(gRPC, engine {server.engine}); Ctrl-C stops",
        flush=True,
    )
    try:
        threading.Event().wait()
    finally:
        server.stop()
        print("stopped", flush=True)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
