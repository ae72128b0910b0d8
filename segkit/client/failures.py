"""What a status of the server means to a user: one function from status codes to errors."""

from __future__ import annotations

import re
from collections.abc import Mapping

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
# What gRPC says of a connection by TLS that failed -> what it means, what was expected, next step.
# None of it mends itself, so none is a ServerUnavailable, which clients wait out.
_TLS_FAILURES: Mapping[str, tuple[str, str, str]] = {
    "Hostname Verification Check failed": (
        "has a certificate for other names",
        "a certificate for the host of --server",
        "address it by a name in its certificate, or make another there by `python -m segkit "
        "serve-config --tls HOST --overwrite`",
    ),
    "certificate has expired": (
        "has a certificate that has expired",
        "one that is valid today",
        "make another there by `python -m segkit serve-config --tls HOST --overwrite`",
    ),
    "CERTIFICATE_VERIFY_FAILED": (
        "has a certificate that the authority of --ca did not sign",
        "the certificate of the authority that did",
        "give the ca.crt that `python -m segkit serve-config --tls` made for that server",
    ),
    "WRONG_VERSION_NUMBER": (
        "does not speak TLS",
        "a server that was started with --ssl_config_file",
        "start it so, or leave out --ca, --cert and --key",
    ),
}
# A server that refuses the client's certificate, or its lack, closes the connection without a word.
_CLOSED = re.compile("failed to connect.*(Socket closed|Connection reset|Broken pipe)")
_CLOSED_MEANS = {
    True: (
        "a server that takes the client's certificate, or asks for none",
        "give the --cert and --key that its authority signed (python -m segkit serve-config --tls "
        "makes them) and see that they have not expired",
    ),
    False: (
        "a model server that answers without TLS",
        "give --ca, --cert and --key if it speaks TLS; if not, look at the log of the server",
    ),
}
# What a server says that has no thread, or no room in its queue, for a request.
_OVERLOADED = re.compile(
    "Server Threadpool Exhausted|Concurrent RPC limit exceeded|batch scheduling queue|"
    "while waiting in batching queue"
)
_OTHER = (ServerError, "an answer", "look at the log of the server")


def server_error(
    code: str, message: str, *, server: str, model: str, tls: bool = False
) -> ServerError:
    """The error to raise for a request that failed.

    Args:
        code: Name of the status code, such as "UNAVAILABLE".
        message: What the server, or gRPC, said of it.
        server: Address of the server.
        model: Name of the model that was asked for.
        tls: Whether the connection is one by TLS.
    """
    for sign, (meaning, expected, next_step) in _TLS_FAILURES.items():
        if tls and code == "UNAVAILABLE" and sign in message:
            return ServerError(
                f"the model server at {server} {meaning} ({message})",
                expected=expected,
                next_step=next_step,
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
    if code == "UNAVAILABLE" and _CLOSED.search(message):
        expected, next_step = _CLOSED_MEANS[tls]
    reason = f" ({message})" if message else ""
    return kind(f"{problem}{reason}", expected=expected, next_step=next_step.format(model=model))
