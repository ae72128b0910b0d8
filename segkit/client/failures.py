"""What a status of the server means to a user: one function from status codes to errors."""

from __future__ import annotations

from collections.abc import Mapping

from segkit.errors import (
    ContractMismatch,
    MessageTooLarge,
    ModelNotFound,
    PredictionTimeout,
    ServerError,
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
_OTHER = (ServerError, "an answer", "look at the log of the server")


def server_error(code: str, message: str, *, server: str, model: str) -> ServerError:
    """The error to raise for a request that failed.

    Args:
        code: Name of the status code, such as "UNAVAILABLE".
        message: What the server, or gRPC, said of it.
        server: Address of the server.
        model: Name of the model that was asked for.
    """
    kind, expected, next_step = _MEANINGS.get(code, _OTHER)
    problem = {
        "UNAVAILABLE": f"the model server at {server} cannot be reached",
        "CANCELLED": f"the model server at {server} ended a request",
        "DEADLINE_EXCEEDED": f"the model server at {server} did not answer in time",
        "NOT_FOUND": f"the model server at {server} does not serve '{model}'",
    }.get(code, f"the model server at {server} failed a request to '{model}', {code}")
    reason = f" ({message})" if message else ""
    return kind(f"{problem}{reason}", expected=expected, next_step=next_step.format(model=model))
