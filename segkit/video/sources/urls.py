"""URLs of cameras and videos, and what of them may be shown."""

from __future__ import annotations

import re

__all__ = ["LIVE_SCHEMES", "SCHEMES", "hide_credentials", "scheme_of"]

LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "udp", "rtp", "tcp")
SCHEMES = (*LIVE_SCHEMES, "http", "https")

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# A password that is no port. It may hold an @; one with a / works nowhere, and is hidden as well.
_PASSWORD = re.compile(r"(://[^/?#:@\s]*):(?!\d*(?:[/?#\s]|$))(?:[^/?#\s]*|\S*)@")
# Cameras also take them behind the host: ?password=..., /user=admin_password=..._channel=1.
_SECRET = re.compile(
    r"(?<![a-z])((?:[a-z]+[_-])*"
    r"(?:passw(?:or)?d|pass|pwd|psw|token|secret|auth|signature|sig|(?:api|access|stream)?key)=)"
    r"[^&#/;\s]+?(?=[&#/;\s]|_[a-z]+=|$)",
    re.IGNORECASE,
)


def scheme_of(text: str) -> str | None:
    """The scheme of a URL in small letters; None: it is none."""
    found = _SCHEME.match(text)
    return found[1].lower() if found else None


def hide_credentials(text: str) -> str:
    """The URL with *** for its passwords, keys and tokens; the user's name stays.

    Args:
        text: A URL, or any text with one in it.
    """
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))
