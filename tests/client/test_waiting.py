from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from segkit.client.waiting import wait_for_server
from segkit.contract import Metadata
from segkit.errors import ContractMismatch, ModelNotFound, ServerError, ServerUnavailable

REFUSED = ServerUnavailable("the server cannot be reached (connection refused)")
UNKNOWN = ModelNotFound("the server does not serve 'segkit'")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segkit.client.waiting.PAUSE_S", 0.001)


class Server:
    """Answers `describe` by what it is given, one after another; the last again and again."""

    def __init__(self, *answers: Any, loading: bool = False) -> None:
        self.answers, self.loading = list(answers), loading

    def describe(self) -> Metadata:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def is_loading(self) -> bool:
        return self.loading


def test_a_server_that_is_there_is_not_waited_for(tiny_metadata: Metadata) -> None:
    said: list[str] = []
    assert wait_for_server(Server(tiny_metadata), 0, said.append) is tiny_metadata
    assert said == []


def test_the_reason_is_told_while_it_waits(tiny_metadata: Metadata) -> None:
    said: list[str] = []
    server = Server(REFUSED, UNKNOWN, tiny_metadata, loading=True)
    assert wait_for_server(server, 60, said.append) is tiny_metadata
    assert said == [
        "the server cannot be reached (connection refused); waiting 60 s more",
        "the model is being loaded; waiting 60 s more",
    ]


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [(REFUSED, 0.01), (REFUSED, 0), (UNKNOWN, 60), (ContractMismatch("x"), 60)],
)
def test_what_does_not_come_or_will_never_is_raised(answer: ServerError, seconds: float) -> None:
    with pytest.raises(type(answer)) as caught:
        wait_for_server(Server(answer), seconds)
    assert caught.value is answer


def test_a_model_that_loads_for_too_long_is_raised() -> None:
    said: Callable[[str], None] = lambda text: None  # noqa: E731
    with pytest.raises(ModelNotFound):
        wait_for_server(Server(UNKNOWN, loading=True), 0.01, said)
