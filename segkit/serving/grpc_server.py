"""The gRPC server: raw bytes in and out, so that its errors are those of the C++ server.

grpcio's generated servicers answer an unknown method and an undecodable request with texts of
their own; tensorflow/serving answers both without any.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from segkit.contract import SERVED_MODELS_KEY
from segkit.engines import Code, StatusError
from segkit.errors import ConfigError
from segkit.serving.service import Method

__all__ = ["create_grpc_server", "parse_channel_arguments", "server_credentials"]

logger = logging.getLogger(__name__)

MESSAGE_LIMIT = 1024  # bytes; TensorFlow Serving cuts there
TRUNCATED = "...TRUNCATED"
INT_MAX = 2**31 - 1
LONGEST_DEADLINE_SECONDS = 365 * 24 * 3600
STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
OPTIONS = (
    ("grpc.max_receive_message_length", INT_MAX),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
)
PREDICTION = "/tensorflow.serving.PredictionService/"
# Threads beside those that predict: status is answered and what is too much is refused at any load.
SPARE_THREADS = 8
# The names that tensorflow/serving gives its services in grpc.health.v1.
HEALTHY = ("", "ModelService", "PredictionService")


def create_grpc_server(
    methods: Mapping[str, Method],
    *,
    model_names: Callable[[], Iterable[str]],
    max_threads: int | None = None,
    health_service: bool = False,
    channel_arguments: Iterable[tuple[str, int | str]] = (),
    obey_deadlines: bool = True,
) -> Any:
    """A grpc.Server that knows the methods and has no port yet.

    Args:
        methods: Full method name, such as "/package.Service/Method" -> what answers it.
        model_names: What is served, told to a client that asks for something else.
        max_threads: Predictions answered at the same time, 4 for each CPU by default; what comes
            on top of them is refused.
        health_service: Whether grpc.health.v1 answers.
        channel_arguments: gRPC's options, beside the usual ones.
        obey_deadlines: Whether a run ends at its request's deadline.
    """
    max_threads = max_threads or 4 * (os.cpu_count() or 1)
    all_threads = max_threads + SPARE_THREADS
    pool = ThreadPoolExecutor(all_threads, thread_name_prefix="grpc")
    server = grpc.server(
        pool, options=(*OPTIONS, *channel_arguments), maximum_concurrent_rpcs=all_threads
    )
    if health_service:
        servicer = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        for name in HEALTHY:
            servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    gate = threading.BoundedSemaphore(max_threads)
    answerers = {
        name: _Answerer(
            method, model_names, gate if name.startswith(PREDICTION) else None, obey_deadlines
        )
        for name, method in methods.items()
    }
    unknown = _Answerer(_unimplemented, model_names, None, obey_deadlines)
    server.add_generic_rpc_handlers([_RawHandlers(answerers, unknown)])
    return server


def server_credentials(ssl_config: Any) -> Any:
    """What a secure port needs.

    Args:
        ssl_config: A tensorflow.serving.SSLConfig.

    Raises:
        ConfigError: It lacks the server's key or certificate.
    """
    if not ssl_config.server_key or not ssl_config.server_cert:
        raise ConfigError(
            "the SSL configuration has no server_key or no server_cert",
            expected="both, as PEM text",
            next_step="python -m segkit serve-config --tls HOST writes one",
        )
    return grpc.ssl_server_credentials(
        [(ssl_config.server_key.encode(), ssl_config.server_cert.encode())],
        root_certificates=ssl_config.custom_ca.encode() or None,
        require_client_auth=ssl_config.client_verify,
    )


def parse_channel_arguments(text: str) -> list[tuple[str, int | str]]:
    """Reads "key=value,key=value"; a value that is a number becomes one.

    Raises:
        ConfigError: There is something else between the commas.
    """
    arguments: list[tuple[str, int | str]] = []
    for word in filter(None, text.split(",")):
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise ConfigError(
                f"--grpc_channel_arguments has '{word}'",
                expected="key=value, as in grpc.max_connection_age_ms=2000",
            )
        try:
            arguments.append((key, int(value)))
        except ValueError:
            arguments.append((key, value))
    return arguments


class _RawHandlers(grpc.GenericRpcHandler):
    def __init__(self, answerers: Mapping[str, _Answerer], unknown: _Answerer) -> None:
        self._handlers = {
            name: grpc.unary_unary_rpc_method_handler(answerer)
            for name, answerer in answerers.items()
        }
        self._unknown = grpc.unary_unary_rpc_method_handler(unknown)

    def service(self, handler_call_details: Any) -> Any:
        return self._handlers.get(handler_call_details.method, self._unknown)


def _unimplemented(raw: bytes, timeout_s: float | None) -> bytes:
    raise StatusError(Code.UNIMPLEMENTED, "")


class _Answerer:
    """Answers the calls of one method: bytes, or a status."""

    def __init__(
        self,
        method: Method,
        model_names: Callable[[], Iterable[str]],
        gate: threading.BoundedSemaphore | None,
        obey_deadlines: bool,
    ) -> None:
        self._method, self._model_names = method, model_names
        self._gate = gate
        self._obey_deadlines = obey_deadlines

    def __call__(self, raw: bytes, context: Any) -> bytes:
        if self._gate is not None and not self._gate.acquire(blocking=False):
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            context.set_details("Server Threadpool Exhausted")  # gRPC's words in C++
            return b""
        try:
            return self._answer(raw, context)
        finally:
            if self._gate is not None:
                self._gate.release()

    def _answer(self, raw: bytes, context: Any) -> bytes:
        timeout_s = _seconds_left(context)
        try:
            if timeout_s == 0:
                raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
            return self._method(raw, timeout_s if self._obey_deadlines else None)
        except StatusError as err:
            status = err
        except Exception as err:
            logger.exception("a request failed in a way that is not the client's doing")
            status = StatusError(Code.INTERNAL, f"{type(err).__name__}: {err}")
        if status.code == Code.NOT_FOUND:
            served = ",".join(self._model_names())
            context.set_trailing_metadata(((SERVED_MODELS_KEY, served),))
        context.set_code(STATUS_CODES[status.code])
        context.set_details(_cut(status.message))
        return b""


def _seconds_left(context: Any) -> float | None:
    seconds: float | None = context.time_remaining()
    # A call without a deadline has one at the end of time.
    return None if seconds is None or seconds > LONGEST_DEADLINE_SECONDS else seconds


def _cut(message: str) -> str:
    encoded = message.encode()
    if len(encoded) <= MESSAGE_LIMIT:
        return message
    return encoded[:MESSAGE_LIMIT].decode(errors="ignore") + TRUNCATED
