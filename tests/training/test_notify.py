from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from segkit.errors import ConfigError
from segkit.training import notify
from segkit.training.notify import make_notifier


class Server(HTTPServer):
    """Keeps what is posted to it, and answers with `status`; None: never."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.posted: list[tuple[str, Any]] = []
        self.status: int | None = 200
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, json.loads(body)))
        if self.server.status is None:
            self.server.released.wait(10)
            return
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def send(notifier: notify.Notifier, text: str = "epoch 3") -> None:
    notifier.send(text)
    notifier.close()


def test_a_webhook_gets_the_text_as_chats_take_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGKIT_WEBHOOK_URL", f"{server.url}/hook/secret")
    send(make_notifier("webhook"), "0.83 at epoch 3, größer")
    assert server.posted == [
        ("/hook/secret", {"text": "0.83 at epoch 3, größer", "content": "0.83 at epoch 3, größer"})
    ]


def test_telegram_gets_the_text_for_the_chat(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGKIT_TELEGRAM_TOKEN", "12:abc")
    monkeypatch.setenv("SEGKIT_TELEGRAM_CHAT_ID", "-77")
    send(make_notifier("telegram", telegram_url=server.url))
    assert server.posted == [("/bot12:abc/sendMessage", {"chat_id": "-77", "text": "epoch 3"})]


def test_by_default_nothing_is_sent(server: Server) -> None:
    send(make_notifier("none"))
    assert not server.posted


@pytest.mark.parametrize("status", [404, 500])
def test_a_refusal_is_logged_without_the_address(
    server: Server, status: int, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    server.status = status
    monkeypatch.setenv("SEGKIT_WEBHOOK_URL", f"{server.url}/hook/secret")
    with caplog.at_level(logging.WARNING):
        send(make_notifier("webhook"))
    assert f"the notification was refused: HTTP status {status}" in caplog.text
    assert "secret" not in caplog.text
    assert "127.0.0.1" not in caplog.text


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/secret", "Connection refused"),
        ("http://[secret", "ValueError"),
        ("http://no such host/secret", "InvalidURL"),
    ],
)
def test_an_address_where_nobody_is_stops_nothing(
    url: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setenv("SEGKIT_WEBHOOK_URL", url)
    with caplog.at_level(logging.WARNING):
        send(make_notifier("webhook"))
    assert f"the notification was not sent: {reason}" in caplog.text
    assert "secret" not in caplog.text


def test_a_server_that_never_answers_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(notify, "_TIMEOUT_S", 0.2)
    monkeypatch.setenv("SEGKIT_WEBHOOK_URL", server.url)
    server.status = None
    with caplog.at_level(logging.WARNING):
        send(make_notifier("webhook"))
    assert "the notification was not sent: TimeoutError" in caplog.text


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("webhook", "SEGKIT_WEBHOOK_URL"),
        ("telegram", "SEGKIT_TELEGRAM_TOKEN"),
    ],
)
def test_a_variable_that_is_not_set_is_named(
    name: Any, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigError, match=f"--notify {name} needs .* {variable}") as caught:
        make_notifier(name)
    assert f"export {variable}=" in caught.value.next_step


def test_what_is_no_web_address_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGKIT_WEBHOOK_URL", "file:///etc/secret")
    with pytest.raises(ConfigError, match="no web address") as caught:
        make_notifier("webhook")
    assert "secret" not in str(caught.value)
