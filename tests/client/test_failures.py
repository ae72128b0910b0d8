"""Every status code becomes one error."""

from __future__ import annotations

import grpc
import pytest

from segkit import errors
from segkit.client.failures import server_error
from segkit.client.handshake import Fault

KINDS = {
    grpc.StatusCode.UNAVAILABLE: errors.ServerUnavailable,
    grpc.StatusCode.CANCELLED: errors.ServerUnavailable,  # a server that stops
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.PredictionTimeout,
    grpc.StatusCode.NOT_FOUND: errors.ModelNotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.MessageTooLarge,
    grpc.StatusCode.INVALID_ARGUMENT: errors.ContractMismatch,
    grpc.StatusCode.FAILED_PRECONDITION: errors.ContractMismatch,
}


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_every_status_code_has_its_error(code: grpc.StatusCode) -> None:
    error = server_error(code.name, "the reason", server="host:1", model="street")
    assert type(error) is KINDS.get(code, errors.ServerError)
    assert "host:1" in error.problem
    assert "the reason" in error.problem
    assert error.expected
    assert error.next_step


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_of_a_handshake_has_its_error(fault: Fault) -> None:
    error = server_error("UNAVAILABLE", "", server="host:1", model="street", fault=fault)
    assert type(error) is errors.ServerError  # nothing that passes by waiting
    assert "host:1" in error.problem
    assert error.expected
    assert error.next_step


def test_other_codes_are_named() -> None:
    error = server_error("UNIMPLEMENTED", "", server="host:1", model="street")
    assert "UNIMPLEMENTED" in error.problem
    assert "'street'" in error.problem


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted"),
        ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!"),
        ("RESOURCE_EXHAUSTED", "Run() timeout exceeded while waiting in batching queue"),
        (
            "UNAVAILABLE",
            "The batch scheduling queue to which this task was submitted is full; currently 2",
        ),
    ],
)
def test_a_server_without_room_is_one_to_try_again(code: str, message: str) -> None:
    """As one that is away: a stream waits for both."""
    error = server_error(code, message, server="host:1", model="street")
    assert isinstance(error, errors.ServerOverloaded)
    assert isinstance(error, errors.ServerUnavailable)
    assert error.problem == f"the model server at host:1 has no room for a request ({message})"
