"""Messages at the start and the end of a training, by webhook or Telegram. Off by default."""

from __future__ import annotations

import http.client
import json
import logging
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Literal, get_args

from segkit.errors import ConfigError

__all__ = ["NOTIFIERS", "Notifier", "NotifierName", "make_notifier"]

logger = logging.getLogger(__name__)

NotifierName = Literal["none", "webhook", "telegram"]
NOTIFIERS: tuple[str, ...] = get_args(NotifierName)

_TIMEOUT_S = 5.0

# Characters beyond which the whole message is refused (core.telegram.org/bots/api#sendmessage,
# discord.com/developers/docs/resources/webhook). An end with 150 classes has more.
_TELEGRAM_MOST, _DISCORD_MOST = 4096, 2000

# From the text of a message to the address it goes to and what is posted there, as JSON.
Address = Callable[[str], tuple[str, Mapping[str, str]]]


class Notifier:
    """Sends messages, each in a thread of its own: a training neither waits for them nor fails.

    Args:
        address: Where a text goes, and as what; None sends nothing.
    """

    def __init__(self, address: Address | None = None) -> None:
        self._address = address
        self._threads: list[threading.Thread] = []

    def send(self, text: str) -> None:
        """Sends a text; a failure is logged, without the address, which is a secret."""
        if self._address is None:
            return
        url, content = self._address(text)
        thread = threading.Thread(target=_post, args=(url, content), name="notify", daemon=True)
        thread.start()
        self._threads.append(thread)

    def close(self) -> None:
        """Waits for what is on its way, but not for a server that does not answer."""
        for thread in self._threads:
            thread.join(timeout=2 * _TIMEOUT_S)
        self._threads.clear()


def make_notifier(
    name: NotifierName, *, telegram_url: str = "https://api.telegram.org"
) -> Notifier:
    """The notifier of a name; addresses and tokens are in the environment.

    Args:
        name: "none"; "webhook": posts `{"text": ...}` to SEGKIT_WEBHOOK_URL, as Slack, Mattermost
            and Google Chat take it, with the same as `content` where that is of Discord;
            "telegram": as the bot of SEGKIT_TELEGRAM_TOKEN to SEGKIT_TELEGRAM_CHAT_ID.
        telegram_url: The Bot API.

    Raises:
        ConfigError: A variable is not set, or holds no address.
    """
    if name == "none":
        return Notifier()
    if name == "webhook":
        url = _variable("SEGKIT_WEBHOOK_URL", name)
        host = _host(url)
        if not host:
            raise ConfigError(
                "--notify webhook: SEGKIT_WEBHOOK_URL is no web address",
                expected="one that begins with https://",
            )
        # Google Chat refuses fields that it does not know, so that not everybody can get both.
        if host.endswith(("discord.com", "discordapp.com")):
            return Notifier(
                lambda text: (url, {"text": text, "content": _cut(text, _DISCORD_MOST)})
            )
        return Notifier(lambda text: (url, {"text": text}))
    token, chat = (_variable(f"SEGKIT_TELEGRAM_{part}", name) for part in ("TOKEN", "CHAT_ID"))
    send_message = f"{telegram_url}/bot{token}/sendMessage"
    return Notifier(
        lambda text: (send_message, {"chat_id": chat, "text": _cut(text, _TELEGRAM_MOST)})
    )


def _variable(variable: str, name: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ConfigError(
            f"--notify {name} needs the environment variable {variable}",
            expected="the address or token there, where no configuration or log shows it",
            next_step=f"export {variable}=..., or leave --notify out",
        )
    return value


def _host(url: str) -> str:
    """The host of a web address; nothing if it is none."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return ""
    return (parts.hostname or "") if parts.scheme in ("https", "http") else ""


def _cut(text: str, most: int) -> str:
    """Leaves the middle out: the run stands at the beginning, what came of it at the end."""
    if len(text) <= most:
        return text
    gap = "\n...\n"
    end = (most - len(gap)) // 2
    return text[: most - len(gap) - end] + gap + text[-end:]


def _post(url: str, content: Mapping[str, str]) -> None:
    body = json.dumps(content).encode()
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
            pass
    except urllib.error.HTTPError as err:
        logger.warning("the notification was refused: HTTP status %d", err.code)
    except (OSError, ValueError, http.client.HTTPException) as err:
        # Of the message the kind alone: some of them quote the address.
        reason = getattr(err, "reason", None)
        strerror = getattr(reason, "strerror", None) or type(reason or err).__name__
        logger.warning("the notification was not sent: %s", strerror)
