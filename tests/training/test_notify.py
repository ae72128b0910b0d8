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
    assert server.posted == [("/hook/secret", {"text": "0.83 at epoch 3, größer"})]


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been posted to addresses that are not here."""
    kept: list[Any] = []
    monkeypatch.setattr(notify, "_post", lambda url, content: kept.append(content))
    return kept


def test_discord_gets_the_field_that_it_shows(
    posted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGKIT_WEBHOOK_URL", "https://discord.com/api/webhooks/1/secret")
    send(make_notifier("webhook"))
    assert posted == [{"text": "epoch 3", "content": "epoch 3"}]


@pytest.mark.parametrize(
    ("name", "field", "most"), [("webhook", "content", 2000), ("telegram", "text", 4096)]
)
def test_a_text_that_would_be_refused_loses_its_middle(
    name: Any, field: str, most: int, posted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGKIT_WEBHOOK_URL", "https://discord.com/api/webhooks/1/secret")
    monkeypatch.setenv("SEGKIT_TELEGRAM_TOKEN", "12:abc")
    monkeypatch.setenv("SEGKIT_TELEGRAM_CHAT_ID", "-77")
    fits = "run" + "x" * (most - 7) + "best"
    for text in (fits, "run" + "x" * most + "best"):
        send(make_notifier(name), text)
    whole, cut = (content[field] for content in posted)
    assert whole == fits
    assert len(cut) == most
    assert cut.startswith("run")
    assert "\n...\n" in cut
    assert cut.endswith("best")


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
        ("telegram", "SEGKIT_TELEGRAM_CHAT_ID"),
    ],
)
def test_a_variable_that_is_not_set_is_named(
    name: Any, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in ("SEGKIT_WEBHOOK_URL", "SEGKIT_TELEGRAM_TOKEN", "SEGKIT_TELEGRAM_CHAT_ID"):
        monkeypatch.setenv(each, "https://127.0.0.1")
    monkeypatch.delenv(variable)
    with pytest.raises(ConfigError, match=f"--notify {name} needs .* {variable}") as caught:
        make_notifier(name)
    assert f"export {variable}=" in caught.value.next_step


@pytest.mark.parametrize(
    "url",
    ["file:///etc/secret", "ftp://127.0.0.1/secret", "http://[secret", "https:///secret", "secret"],
)
def test_what_is_no_web_address_is_refused_unseen(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGKIT_WEBHOOK_URL", url)
    with pytest.raises(ConfigError, match="no web address") as caught:
        make_notifier("webhook")
    assert "secret" not in str(caught.value)


def test_the_end_does_not_wait_for_a_message_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, released = threading.Event(), threading.Event()

    def trickle(url: str, content: Any) -> None:
        released.wait(2)
        sent.set()

    monkeypatch.setattr(notify, "_TIMEOUT_S", 0.05)
    monkeypatch.setattr(notify, "_post", trickle)
    monkeypatch.setenv("SEGKIT_WEBHOOK_URL", server.url)
    send(make_notifier("webhook"))
    assert not sent.is_set()
    released.set()
    assert sent.wait(2)
