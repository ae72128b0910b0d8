"""ServerSettings: all that can be said of an embedded server, beside the models that it serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segkit.engines import AUTO
from segkit.serving.batching import Batching

__all__ = ["ServerSettings"]


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How to serve. The flags of `segkit serve`, which are those of tensorflow_model_server.

    Args:
        host: Address to listen on.
        port: Port for gRPC; 0 takes a free one, None opens none.
        socket_path: Path of a Unix socket for gRPC, "" for none.
        ssl_config: tensorflow.serving.SSLConfig of the gRPC port, None for plain text.
        max_threads: Predictions answered at the same time over gRPC; 4 for each CPU if None.
        channel_arguments: gRPC's own options.
        health_service: Whether grpc.health.v1 answers.
        obey_deadlines: Whether a run ends at its request's deadline.
        rest_port: Port for REST; 0 takes a free one, None opens none.
        rest_threads: Requests answered at the same time over REST; 4 for each CPU if None.
        rest_timeout_s: Seconds that a REST request may run.
        rest_cors: Whether pages of other origins may ask.
        metrics_path: Where the REST port shows the metrics, None for nowhere.
        engine: See `segkit.engines.find_variant`.
        session_config: tensorflow.ConfigProto of TensorFlow's sessions, None for the usual one.
        warmup: Whether a version's warm-up records are replayed before it is available.
        warmup_iterations: How often each of them.
        batching: How requests are put together, None for each on its own.
        batching_per_model: Whether a version's own file says so instead.
        poll_seconds: Seconds between two looks at the folders of versions; 0 looks once.
        load_retries: How often a version that fails to load is tried again.
        load_retry_seconds: Seconds between two tries.
        labels_before_versions: Whether a label may be given to a version that is not available.
        check_method_name: Whether a signature's method_name has to be that of the method called.
    """

    host: str = "127.0.0.1"
    port: int | None = 0
    socket_path: str = ""
    ssl_config: Any = None
    max_threads: int | None = None
    channel_arguments: tuple[tuple[str, int | str], ...] = ()
    health_service: bool = False
    obey_deadlines: bool = True
    rest_port: int | None = None
    rest_threads: int | None = None
    rest_timeout_s: float = 30.0
    rest_cors: bool = False
    metrics_path: str | None = None
    engine: str = AUTO
    session_config: Any = None
    warmup: bool = True
    warmup_iterations: int = 1
    batching: Batching | None = None
    batching_per_model: bool = False
    poll_seconds: float = 1.0
    load_retries: int = 0
    load_retry_seconds: float = 60.0
    labels_before_versions: bool = False
    check_method_name: bool = False
