"""ModelServer: one model's versions behind a gRPC port, from start to stop."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from segkit.engines import engine_name
from segkit.errors import ConfigError, ExportError
from segkit.serving.folder import SAVED_MODEL_FILE
from segkit.serving.grpc_server import create_grpc_server
from segkit.serving.service import ModelServices
from segkit.serving.versions import State, VersionManager

__all__ = ["ModelServer"]

STOP_GRACE_SECONDS = 5.0


class ModelServer:
    """Serves a published model as tensorflow/serving does. A context manager.

    The port opens when the first version has loaded and warmed up, so that a client which is
    refused knows to wait.

    Args:
        model_name: The name that clients ask for.
        base_path: The folder of numbered versions.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        engine: "auto" or a key of `segkit.engines.ENGINES`.
        poll_seconds: Seconds between two looks at the folder; 0 looks once.
        max_threads: Requests answered at the same time; 4 for each CPU if None.
    """

    def __init__(
        self,
        model_name: str,
        base_path: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        engine: str = "auto",
        poll_seconds: float = 1.0,
        max_threads: int | None = None,
    ) -> None:
        self.engine = engine_name(engine)
        self._base_path = base_path
        self._host, self._port = host, port
        self._versions = VersionManager(
            model_name, base_path.absolute(), engine=self.engine, poll_seconds=poll_seconds
        )
        services = ModelServices({model_name: self._versions})
        self._grpc: Any = create_grpc_server(
            services.methods, model_names=[model_name], max_threads=max_threads
        )
        self._stopped = False

    @property
    def address(self) -> str:
        """Host and port, for clients."""
        return _join(self._host, self._port)

    @property
    def versions(self) -> list[int]:
        """The versions that are available now, the newest first."""
        return [x.number for x in self._versions.statuses() if x.state is State.AVAILABLE]

    def start(self) -> None:
        """Loads the first version, waiting for it if there is none yet, and opens the port.

        Raises:
            ConfigError: The port is taken or the base path does not exist.
            ExportError: The version that is there cannot be loaded.
        """
        self._check_base_path()
        _check_port_is_free(self._host, self._port)
        self._versions.start()
        try:
            self._versions.wait_until_settled()
            if not self.versions:
                raise self._failed_to_start()
            try:
                self._port = self._grpc.add_insecure_port(self.address)
            except RuntimeError as err:
                raise _port_error(self._host, self._port, str(err)) from err
            self._grpc.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Refuses new requests, finishes those that run, and frees the model."""
        if not self._stopped:
            self._stopped = True
            self._grpc.stop(STOP_GRACE_SECONDS).wait()
            self._versions.stop()

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _check_base_path(self) -> None:
        if not self._base_path.is_dir():
            raise ConfigError(
                f"the base path '{self._base_path}' does not exist",
                expected="the folder of the numbered versions of one model",
                next_step="publish a version by `python -m segkit export`, or correct the path",
            )
        if (self._base_path / SAVED_MODEL_FILE).is_file():
            raise ConfigError(
                f"the base path '{self._base_path}' is itself a version",
                expected="the folder that holds the numbered versions",
                next_step=f"give '{self._base_path.parent}'",
            )

    def _failed_to_start(self) -> ExportError:
        failed = [
            f"version {status.number}: {status.error}"
            for status in self._versions.statuses()
            if status.error
        ]
        if not failed:
            return ExportError(
                f"there is no version in '{self._base_path}'",
                expected="folders named 1, 2, ... that hold a SavedModel",
                next_step="publish one by `python -m segkit export`",
            )
        return ExportError(
            "no version could be loaded; " + "; ".join(failed),
            expected=f"a version in '{self._base_path}' that loads and answers its warm-up records",
            next_step="publish the model again, or remove the version that fails",
        )


def _check_port_is_free(host: str, port: int) -> None:
    """Fails before the model is loaded, not after."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), port), family=family).close()
    except OSError as err:
        raise _port_error(host, port, err.strerror or str(err)) from err


def _port_error(host: str, port: int, reason: str) -> ConfigError:
    return ConfigError(
        f"cannot listen on {_join(host, port)}: {reason}",
        expected="a free port on an address of this machine",
        next_step="stop the other server, or choose another --port",
    )


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
