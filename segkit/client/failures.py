"""What a status of the server means to a user: one function from status codes to errors."""

from __future__ import annotations

import re
from collections.abc import Mapping

from segkit.client.handshake import Fault
from segkit.errors import (
    ContractMismatch,
    MessageTooLarge,
    ModelNotFound,
    PredictionTimeout,
    ServerError,
    ServerOverloaded,
    ServerUnavailable,
)

__all__ = ["server_error"]

# Status code -> error, what was expected, next step. {server} and {model} are filled in.
_MEANINGS: Mapping[str, tuple[type[ServerError], str, str]] = {
    "UNAVAILABLE": (
        ServerUnavailable,
        "a model server that listens there",
        "start one by `python -m segkit serve`, or correct --server",
    ),
    # The client cancels nothing, so this is a server that stops with requests under way.
    "CANCELLED": (
        ServerUnavailable,
        "a model server that goes on running",
        "wait until the server is back, or start one by `python -m segkit serve`",
    ),
    "DEADLINE_EXCEEDED": (
        PredictionTimeout,
        "an answer before the deadline",
        "try again; if it stays, the server is overloaded or the network is gone",
    ),
    "NOT_FOUND": (
        ModelNotFound,
        "the name and a version of a served model",
        "correct --model_name, or serve it by `python -m segkit serve --model_name {model}`",
    ),
    "RESOURCE_EXHAUSTED": (
        MessageTooLarge,
        "a message within the limits of server and network",
        "export the model at a smaller image size, or raise the limit of the proxy between",
    ),
    "INVALID_ARGUMENT": (
        ContractMismatch,
        "a model that takes what segkit sends",
        "serve a version made by `python -m segkit export`",
    ),
    "FAILED_PRECONDITION": (
        ContractMismatch,
        "a model with the signatures of segkit's contract",
        "serve a version made by `python -m segkit export`",
    ),
}
# Why a connection by TLS does not come about -> what it means, what was expected, next step.
# None of it mends itself, so none is a ServerUnavailable, which clients wait out.
_TLS: Mapping[Fault, tuple[str, str, str]] = {
    Fault.SERVER_WANTS_TLS: (
        "speaks TLS alone",
        "the flags of a client that does",
        "give --ca, --cert and --key: `python -m segkit serve-config --tls HOST` made the files",
    ),
    Fault.SERVER_HAS_NO_TLS: (
        "does not speak TLS",
        "a server that was started with --ssl_config_file",
        "start it so, or leave out --ca, --cert and --key",
    ),
    Fault.OTHER_NAME: (
        "has a certificate for other names",
        "a certificate for the host of --server",
        "address it by a name in its certificate, or make another there by `python -m segkit "
        "serve-config --tls HOST --overwrite`",
    ),
    Fault.EXPIRED: (
        "has a certificate that is not valid today",
        "one that is, and clocks that are right",
        "make another there by `python -m segkit serve-config --tls HOST --overwrite`",
    ),
    Fault.OTHER_AUTHORITY: (
        "has a certificate that the authority of --ca did not sign",
        "the certificate of the authority that did",
        "give the ca.crt that `python -m segkit serve-config --tls HOST` made for that server",
    ),
    Fault.CLIENT_REFUSED: (
        "does not take the client's certificate, or wants one",
        "one that its authority signed and that is valid today",
        "give the client.crt and client.key beside its ca.crt as --cert and --key",
    ),
}
# What a server says that has no thread, or no room in its queue, for a request.
_OVERLOADED = re.compile(
    "Server Threadpool Exhausted|Concurrent RPC limit exceeded|batch scheduling queue|"
    "while waiting in batching queue"
)
_OTHER = (ServerError, "an answer", "look at the log of the server")


def server_error(
    code: str, message: str, *, server: str, model: str, fault: Fault | None = None
) -> ServerError:
    """The error to raise for a request that failed.

    Args:
        code: Name of the status code, such as "UNAVAILABLE".
        message: What the server, or gRPC, said of it.
        server: Address of the server.
        model: Name of the model that was asked for.
        fault: What a handshake found that keeps client and server apart.
    """
    if fault is not None:
        meaning, expected, next_step = _TLS[fault]
        return ServerError(
            f"the model server at {server} {meaning}", expected=expected, next_step=next_step
        )
    if _OVERLOADED.search(message):
        return ServerOverloaded(
            f"the model server at {server} has no room for a request ({message})",
            expected="fewer requests at the same time than the server takes",
            next_step="try again with fewer, or raise --grpc_max_threads or max_enqueued_batches "
            "there",
        )
    kind, expected, next_step = _MEANINGS.get(code, _OTHER)
    problem = {
        "UNAVAILABLE": f"the model server at {server} cannot be reached",
        "CANCELLED": f"the model server at {server} ended a request",
        "DEADLINE_EXCEEDED": f"the model server at {server} did not answer in time",
        "NOT_FOUND": f"the model server at {server} does not serve '{model}'",
    }.get(code, f"the model server at {server} failed a request to '{model}', {code}")
    reason = f" ({message})" if message else ""
    return kind(f"{problem}{reason}", expected=expected, next_step=next_step.format(model=model))
