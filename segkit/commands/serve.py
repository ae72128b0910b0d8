"""Serves published versions as tensorflow/serving does, on this machine, GPU or not.

New versions in the folder are picked up while it runs; the old one serves until then. The flags
are those of tensorflow_model_server, and so are the files that they name.
"""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from segkit import contract
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.serving.server import ModelServer
    from segkit.serving.settings import ServerSettings

__all__ = ["Options", "run"]

TAG = "serve"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the server, spelled as tensorflow_model_server spells them."""

    # === Models ===
    model_base_path: Path | None = None
    """the folder of numbered versions, as `segkit export` writes it"""
    model_name: str = contract.DEFAULT_MODEL_NAME
    """the name that clients ask for"""
    model_config_file: Path | None = None
    """several models, version policies and labels: a ModelServerConfig as protobuf text"""
    model_config_file_poll_wait_seconds: float = 0.0
    """seconds between two looks at that file; 0 looks once"""
    file_system_poll_wait_seconds: float = 1.0
    """seconds between two looks at the folders of versions; 0 looks once"""
    max_num_load_retries: int = 0
    """how often a version that fails to load is tried again, before its files change"""
    load_retry_interval_micros: int = 60_000_000
    """microseconds between two tries"""
    allow_version_labels_for_unavailable_models: bool = False
    """let a new label point at a version that is not available yet"""

    # === Engine ===
    engine: str = "auto"
    """what runs the model: auto (the fastest form that was proved), tensorflow, openvino, tflite
    or onnx, perhaps with :PRECISION"""
    tensorflow_session_config_file: Path | None = None
    """a ConfigProto as protobuf text"""
    tensorflow_session_parallelism: int = 0
    """threads of TensorFlow, within an operation and across them; 0 leaves it to TensorFlow"""
    tensorflow_intra_op_parallelism: int = 0
    """threads within an operation"""
    tensorflow_inter_op_parallelism: int = 0
    """threads across operations"""
    platform_config_file: Path | None = None
    """batching, session and warm-up in one file: a PlatformConfigMap as protobuf text"""
    saved_model_tags: str = TAG
    """tags of the graph to load"""
    enable_model_warmup: bool = True
    """replay a version's warm-up records before it is available"""
    num_request_iterations_for_warmup: int = 0
    """how often each of them; once if 0"""
    enable_signature_method_name_check: bool = False
    """refuse a signature by its method_name"""

    # === Batching ===
    enable_batching: bool = False
    """put requests that wait at the same time together"""
    batching_parameters_file: Path | None = None
    """how: BatchingParameters as protobuf text"""
    enable_per_model_batching_parameters: bool = False
    """read batching_params.pbtxt of each version instead"""

    # === gRPC ===
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 lets other machines in"""
    port: int = 8500
    """port for gRPC; 0 takes a free one"""
    grpc_socket_path: str = ""
    """path of a Unix socket to listen on as well"""
    grpc_max_threads: int | None = None
    """predictions answered at the same time; 4 for each CPU by default, more are refused"""
    grpc_channel_arguments: str = ""
    """options of gRPC: key=value,key=value"""
    ssl_config_file: Path | None = None
    """the server's key and certificate: an SSLConfig as protobuf text"""
    enable_grpc_healthcheck_service: bool = False
    """answer grpc.health.v1"""
    enforce_session_run_timeout: bool = True
    """end a run at its request's deadline"""

    # === REST ===
    rest_api_port: int = 0
    """port for REST; 0 opens none"""
    rest_api_num_threads: int | None = None
    """requests answered at the same time; 4 for each CPU by default"""
    rest_api_timeout_in_ms: int = 30_000
    """milliseconds that a request may run"""
    rest_api_enable_cors_support: bool = False
    """let pages of other origins ask"""
    monitoring_config_file: Path | None = None
    """where the REST port shows metrics: a MonitoringConfig as protobuf text"""

    # === Taken, without a use here ===
    enable_profiler: bool = False
    """there is no profiler here"""
    num_load_threads: int = 0
    """every model loads in a thread of its own here"""
    num_unload_threads: int = 0
    """likewise"""

    def __post_init__(self) -> None:
        for name in vars(self):
            # As in tensorflow_model_server, --ssl_config_file= says that there is none.
            if name.endswith("_file") and getattr(self, name) == Path():
                object.__setattr__(self, name, None)
        for name in ("port", "rest_api_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise ConfigError(f"--{name} is {getattr(self, name)}", expected="0 to 65535")
        if self.port and self.port == self.rest_api_port:
            raise ConfigError(
                f"--port and --rest_api_port are both {self.port}", expected="two ports"
            )
        if self.model_config_file is None and self.model_base_path is None:
            raise ConfigError(
                "neither --model_base_path nor --model_config_file is given",
                expected="the folder of the numbered versions of one model, or a file of several",
                next_step="--model_base_path checkpoints/export_path",
            )
        if not self.model_name:
            raise ConfigError("--model_name is empty", expected="a name, such as segkit")
        self._check_numbers()
        if self.batching_parameters_file and not self.enable_batching:
            raise ConfigError(
                "--batching_parameters_file is set without setting --enable_batching to true",
                expected="both or neither",
            )
        if self.saved_model_tags != TAG:
            raise ConfigError(
                f"--saved_model_tags is '{self.saved_model_tags}'",
                expected=f"'{TAG}', which segkit's exports have",
            )

    def _check_numbers(self) -> None:
        least = {
            "file_system_poll_wait_seconds": 0,
            "model_config_file_poll_wait_seconds": 0,
            "max_num_load_retries": 0,
            "load_retry_interval_micros": 0,
            "num_request_iterations_for_warmup": 0,
            "tensorflow_session_parallelism": 0,
            "tensorflow_intra_op_parallelism": 0,
            "tensorflow_inter_op_parallelism": 0,
            "rest_api_timeout_in_ms": 1,
            "grpc_max_threads": 1,
            "rest_api_num_threads": 1,
        }
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise ConfigError(f"--{name} is {value}", expected=f"{lowest} or more")
        single = (self.tensorflow_intra_op_parallelism, self.tensorflow_inter_op_parallelism)
        if self.tensorflow_session_parallelism and any(single):
            raise ConfigError(
                "--tensorflow_session_parallelism is given beside --tensorflow_intra_op_parallelism"
                " or --tensorflow_inter_op_parallelism",
                expected="the first alone, or the other two",
            )


def run(options: Options) -> None:
    """Serves until SIGINT (exit status 130) or SIGTERM (0)."""
    from segkit.serving.memory import settle_memory

    settle_memory()
    print(f"loading {_what(options)}", flush=True)
    from segkit.serving.server import ModelServer

    server = ModelServer(
        _models(options),
        _settings(options),
        config_file=options.model_config_file,
        config_poll_seconds=options.model_config_file_poll_wait_seconds,
    )
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        server.start()
        _wait(server)
    finally:
        server.stop()
        signal.signal(signal.SIGTERM, before)


def _what(options: Options) -> str:
    if options.model_config_file is not None:
        return f"the models of {options.model_config_file}"
    return f"{options.model_name} from {options.model_base_path}"


def _models(options: Options) -> Any:
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    from segkit.serving.configs import read_message, single_model

    if options.model_config_file is not None:
        return read_message(options.model_config_file, ModelServerConfig)
    assert options.model_base_path is not None
    return single_model(options.model_name, options.model_base_path)


def _settings(options: Options) -> ServerSettings:
    from segkit.serving.configs import read_message, read_platform
    from segkit.serving.grpc_server import parse_channel_arguments
    from segkit.serving.metrics import PROMETHEUS_PATH
    from segkit.serving.server_config_pb2 import MonitoringConfig, SSLConfig
    from segkit.serving.settings import ServerSettings

    metrics_path = None
    if options.monitoring_config_file is not None:
        monitoring = read_message(options.monitoring_config_file, MonitoringConfig)
        if monitoring.prometheus_config.enable:
            metrics_path = monitoring.prometheus_config.path or PROMETHEUS_PATH
    if options.platform_config_file is not None:
        loading = _loading_by_platform(read_platform(options.platform_config_file))
    else:
        loading = _loading_by_flags(options)
    return ServerSettings(
        host=options.host,
        port=options.port,
        socket_path=options.grpc_socket_path,
        ssl_config=options.ssl_config_file and read_message(options.ssl_config_file, SSLConfig),
        max_threads=options.grpc_max_threads,
        channel_arguments=tuple(parse_channel_arguments(options.grpc_channel_arguments)),
        health_service=options.enable_grpc_healthcheck_service,
        obey_deadlines=options.enforce_session_run_timeout,
        rest_port=options.rest_api_port or None,
        rest_threads=options.rest_api_num_threads,
        rest_timeout_s=options.rest_api_timeout_in_ms / 1e3,
        rest_cors=options.rest_api_enable_cors_support,
        metrics_path=metrics_path,
        engine=options.engine,
        poll_seconds=options.file_system_poll_wait_seconds,
        load_retries=options.max_num_load_retries,
        load_retry_seconds=options.load_retry_interval_micros / 1e6,
        labels_before_versions=options.allow_version_labels_for_unavailable_models,
        check_method_name=options.enable_signature_method_name_check,
        **loading,
    )


def _loading_by_flags(options: Options) -> dict[str, Any]:
    """How versions are loaded, as the flags say."""
    from tensorflow.core.protobuf.config_pb2 import ConfigProto

    from segkit.serving.batching import Batching
    from segkit.serving.configs import read_message, session_config
    from segkit.serving.server_config_pb2 import BatchingParameters

    batching = None
    if options.batching_parameters_file is not None:
        batching = Batching.of(read_message(options.batching_parameters_file, BatchingParameters))
    elif options.enable_batching:
        batching = Batching(thread_pool_name="model_server_batch_threads")
    session = options.tensorflow_session_config_file and read_message(
        options.tensorflow_session_config_file, ConfigProto
    )
    threads = (
        options.tensorflow_session_parallelism or options.tensorflow_intra_op_parallelism,
        options.tensorflow_session_parallelism or options.tensorflow_inter_op_parallelism,
    )
    if any(threads):
        session = session_config(*threads, base=session)
    return {
        "batching": batching,
        "batching_per_model": options.enable_per_model_batching_parameters,
        "session_config": session,
        "warmup": options.enable_model_warmup,
        "warmup_iterations": options.num_request_iterations_for_warmup or 1,
    }


def _loading_by_platform(config: Any) -> dict[str, Any]:
    """How versions are loaded, as a SessionBundleConfig says."""
    from segkit.serving.batching import Batching

    batching = config.HasField("batching_parameters") or config.enable_per_model_batching_params
    warmup = config.model_warmup_options
    return {
        "batching": Batching.of(config.batching_parameters) if batching else None,
        "batching_per_model": config.enable_per_model_batching_params,
        "session_config": config.session_config if config.HasField("session_config") else None,
        "warmup": config.enable_model_warmup,
        "warmup_iterations": warmup.num_request_iterations.value or 1,
    }


def _wait(server: ModelServer) -> None:
    print("\n".join([*server.describe(), "Ctrl-C stops"]), flush=True)
    try:
        threading.Event().wait()
    finally:
        server.stop()
        print("stopped", flush=True)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
