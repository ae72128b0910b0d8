"""ModelServer: models behind a gRPC port and a REST port, from start to stop."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from segkit.engines import Code, StatusError, engine_name
from segkit.errors import ConfigError, ExportError
from segkit.serving.addresses import join_address, listen, port_error
from segkit.serving.batching import BatchScheduler
from segkit.serving.config_poll import ConfigPoll
from segkit.serving.configs import single_model
from segkit.serving.folder import SAVED_MODEL_FILE
from segkit.serving.grpc_server import create_grpc_server, server_credentials
from segkit.serving.metrics import Metrics
from segkit.serving.models import Models
from segkit.serving.rest.api import RestApi
from segkit.serving.rest.server import RestServer
from segkit.serving.servable import Loader, Servable
from segkit.serving.service import ModelServices
from segkit.serving.settings import ServerSettings
from segkit.serving.versions import State, VersionManager
from segkit.serving.warmup import replay_warmup

__all__ = ["ModelServer"]

PORT, REST_PORT = "--port", "--rest_api_port"
STOP_GRACE_SECONDS = 8.0  # Docker's patience is 10


class ModelServer:
    """Serves published models as tensorflow/serving does. A context manager.

    The ports open when every model has loaded and warmed up, so that a client which is refused
    knows to wait.

    Args:
        config: tensorflow.serving.ModelServerConfig: which models, from where.
        settings: How.
        config_file: The file that `config` was read from, if its changes are to be served.
        config_poll_seconds: Seconds between two looks at it; 0 never looks again.

    Raises:
        ConfigError: The settings contradict one another.
    """

    def __init__(
        self,
        config: Any,
        settings: ServerSettings | None = None,
        *,
        config_file: Path | None = None,
        config_poll_seconds: float = 0.0,
    ) -> None:
        self._config = config
        self._settings = settings = settings or ServerSettings()
        engine_name(settings.engine)
        self.metrics = Metrics()
        self._port = settings.port
        self._scheduler = (
            BatchScheduler(settings.batching.num_threads, self.metrics)
            if settings.batching
            else None
        )
        self._loader = Loader(
            engine=settings.engine,
            session_config=settings.session_config,
            batching=settings.batching,
            batching_per_model=settings.batching_per_model,
            scheduler=self._scheduler,
            metrics=self.metrics,
        )
        self.models = Models(
            self._make_manager, labels_before_versions=settings.labels_before_versions
        )
        self.services = ModelServices(
            self.models, self.metrics, check_method_name=settings.check_method_name
        )
        self._grpc: Any = create_grpc_server(
            self.services.methods,
            model_names=lambda: self.models.names,
            max_threads=settings.max_threads,
            health_service=settings.health_service,
            channel_arguments=settings.channel_arguments,
            obey_deadlines=settings.obey_deadlines,
        )
        self._rest: RestServer | None = None
        self._config_poll = (
            ConfigPoll(config_file, self.models, config_poll_seconds)
            if config_file and config_poll_seconds
            else None
        )
        self._stop_lock = threading.Lock()
        self._stopped = False

    @classmethod
    def of(cls, model_name: str, base_path: Path, **settings: Any) -> ModelServer:
        """A server of one model.

        Args:
            model_name: The name that clients ask for.
            base_path: The folder of numbered versions.
            settings: Those of `ServerSettings`.
        """
        return cls(single_model(model_name, base_path), ServerSettings(**settings))

    @property
    def address(self) -> str:
        """Host and port of gRPC, for clients."""
        assert self._port is not None
        return join_address(self._settings.host, self._port)

    @property
    def rest_address(self) -> str | None:
        """Host and port of REST, None without."""
        return None if self._rest is None else join_address(self._settings.host, self._rest.port)

    @property
    def versions(self) -> dict[str, list[int]]:
        """Model name -> the versions that are available now, the newest first."""
        return {
            name: [x.number for x in self.models.statuses(name) if x.state is State.AVAILABLE]
            for name in self.models.names
        }

    def describe(self) -> list[str]:
        """What is served where, a line each; for whoever started the server."""
        where = self.address if self._port is not None else f"unix:{self._settings.socket_path}"
        secure = ", TLS" if self._settings.ssl_config is not None else ""
        lines = []
        for name, engines in self.models.engines().items():
            versions = ", ".join(map(str, engines))
            by = ", ".join(dict.fromkeys(engines.values()))
            lines.append(
                f"serving {name} version {versions} on {where} (gRPC{secure}, engine {by})"
            )
        if self.rest_address is not None:
            lines.append(f"REST on http://{self.rest_address}")
        return lines

    def start(self) -> None:
        """Loads the models, waiting for versions where there are none yet, and opens the ports.

        Raises:
            ConfigError: A port is taken, a base path does not exist, or the configuration is wrong.
            ExportError: A model cannot be loaded.
        """
        settings = self._settings
        self._check_base_paths()
        for port, flag in ((settings.port, PORT), (settings.rest_port, REST_PORT)):
            if port:  # fails before the models are loaded, not after
                listen(settings.host, port, flag=flag).close()
        try:
            self._load()
            self._listen()
            self._grpc.start()
            if settings.rest_port is not None:
                self._start_rest(settings.rest_port)
            if self._config_poll is not None:
                self._config_poll.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Refuses new requests, finishes those that run, and frees the models."""
        with self._stop_lock:
            if self._stopped:
                return
            self._stopped = True
            if self._config_poll is not None:
                self._config_poll.stop()
            grpc_stopped = self._grpc.stop(STOP_GRACE_SECONDS)
            if self._rest is not None:
                self._rest.stop(STOP_GRACE_SECONDS)
            grpc_stopped.wait()
            self.models.stop()
            if self._scheduler is not None:
                self._scheduler.stop()

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _make_manager(self, name: str) -> VersionManager:
        settings = self._settings
        return VersionManager(
            name,
            self._load_version,
            poll_seconds=settings.poll_seconds,
            retries=settings.load_retries,
            retry_seconds=settings.load_retry_seconds,
        )

    def _load_version(self, name: str, path: Path) -> Servable:
        servable = self._loader.load(name, path)
        if not self._settings.warmup:
            return servable
        begin, code = time.perf_counter(), Code.OK
        try:
            replay_warmup(servable, path, iterations=self._settings.warmup_iterations)
        except BaseException as err:
            code = err.code if isinstance(err, StatusError) else Code.INTERNAL
            servable.close()
            raise
        finally:
            self.metrics.warmed_up(path, code, time.perf_counter() - begin)
        return servable

    def _load(self) -> None:
        try:
            self.models.reload(self._config.model_config_list)
        except StatusError as err:
            raise self._failed_to_start(err) from err

    def _listen(self) -> None:
        settings = self._settings
        credentials = (
            None if settings.ssl_config is None else server_credentials(settings.ssl_config)
        )
        addresses = [f"unix:{settings.socket_path}"] if settings.socket_path else []
        if settings.port is not None:
            addresses.append(join_address(settings.host, settings.port))
        for address in addresses:
            try:
                if credentials is None:
                    port = self._grpc.add_insecure_port(address)
                else:
                    port = self._grpc.add_secure_port(address, credentials)
            except RuntimeError as err:
                raise port_error(address, str(err), flag=PORT) from err
        if settings.port is not None:
            self._port = port

    def _start_rest(self, port: int) -> None:
        settings = self._settings
        api = RestApi(
            self.services,
            timeout_s=settings.rest_timeout_s,
            cors=settings.rest_cors,
            metrics_path=settings.metrics_path,
            metrics_page=self.metrics.page,
            check_method_name=settings.check_method_name,
        )
        self._rest = RestServer(api, settings.host, port, settings.rest_threads)
        self._rest.start()

    def _check_base_paths(self) -> None:
        for model in self._config.model_config_list.config:
            base_path = Path(model.base_path)
            if not base_path.is_dir():
                raise ConfigError(
                    f"the base path '{base_path}' of the model '{model.name}' does not exist",
                    expected="the folder of the numbered versions of one model",
                    next_step="publish a version by `python -m segkit export`, or correct the path",
                )
            if (base_path / SAVED_MODEL_FILE).is_file():
                raise ConfigError(
                    f"the base path '{base_path}' is itself a version",
                    expected="the folder that holds the numbered versions",
                    next_step=f"give '{base_path.parent}'",
                )

    def _failed_to_start(self, refusal: StatusError) -> ConfigError | ExportError:
        """What kept the models from loading, in a sentence for whoever started the server."""
        failed = [
            f"{name} version {status.number}: {status.error}"
            for name in self.models.names
            for status in self.models.statuses(name)
            if status.error
        ]
        empty = [
            f"'{model.base_path}'"
            for model in self._config.model_config_list.config
            if not self.models.statuses(model.name)
        ]
        if failed:
            return ExportError(
                "no version could be loaded; " + "; ".join(failed),
                expected="versions that load and answer their warm-up records",
                next_step="publish the model again, or remove the version that fails",
            )
        if empty:
            return ExportError(
                f"there is no version in {', '.join(empty)}",
                expected="folders named 1, 2, ... that hold a SavedModel",
                next_step="publish one by `python -m segkit export`",
            )
        return ConfigError(
            f"the model configuration is refused: {refusal.message}",
            expected="a model_config_list as tensorflow/serving takes it",
            next_step="correct it; python -m segkit serve-config writes one",
        )
