"""The gRPC server: raw bytes in and out, so that its errors are those of the C++ server.

grpcio's generated servicers answer an unknown method and an undecodable request with texts of
their own; tensorflow/serving answers both without any.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from segkit.contract import SERVED_MODELS_KEY
from segkit.engines import Code, StatusError
from segkit.serving.service import Method

__all__ = ["create_grpc_server"]

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


def create_grpc_server(
    methods: Mapping[str, Method], *, model_names: Iterable[str], max_threads: int | None = None
) -> Any:
    """A grpc.Server that knows the methods and has no port yet.

    Args:
        methods: Full method name, such as "/package.Service/Method" -> what answers it.
        model_names: What is served, told to a client that asks for something else.
        max_threads: Requests answered at the same time; 4 for each CPU by default.
    """
    pool = ThreadPoolExecutor(max_threads or 4 * (os.cpu_count() or 1), thread_name_prefix="grpc")
    return grpc.server(
        pool, handlers=[_RawHandlers(methods, ",".join(model_names))], options=OPTIONS
    )


class _RawHandlers(grpc.GenericRpcHandler):
    def __init__(self, methods: Mapping[str, Method], served: str) -> None:
        self._handlers = {
            name: grpc.unary_unary_rpc_method_handler(_answer_with(method, served))
            for name, method in methods.items()
        }
        self._unknown = grpc.unary_unary_rpc_method_handler(_answer_with(_unimplemented, served))

    def service(self, handler_call_details: Any) -> Any:
        return self._handlers.get(handler_call_details.method, self._unknown)


def _unimplemented(raw: bytes, timeout_s: float | None) -> bytes:
    raise StatusError(Code.UNIMPLEMENTED, "")


def _answer_with(method: Method, served: str) -> Any:
    def answer(raw: bytes, context: Any) -> bytes:
        timeout_s = _seconds_left(context)
        try:
            if timeout_s == 0:
                raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
            return method(raw, timeout_s)
        except StatusError as err:
            status = err
        except Exception as err:
            logger.exception("a request failed in a way that is not the client's doing")
            status = StatusError(Code.INTERNAL, f"{type(err).__name__}: {err}")
        if status.code == Code.NOT_FOUND:
            context.set_trailing_metadata(((SERVED_MODELS_KEY, served),))
        context.set_code(STATUS_CODES[status.code])
        context.set_details(_cut(status.message))
        return b""

    return answer


def _seconds_left(context: Any) -> float | None:
    seconds: float | None = context.time_remaining()
    # A call without a deadline has one at the end of time.
    return None if seconds is None or seconds > LONGEST_DEADLINE_SECONDS else seconds


def _cut(message: str) -> str:
    encoded = message.encode()
    if len(encoded) <= MESSAGE_LIMIT:
        return message
    return encoded[:MESSAGE_LIMIT].decode(errors="ignore") + TRUNCATED
