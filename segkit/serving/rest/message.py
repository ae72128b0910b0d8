"""HTTP/1.1 requests and replies as libevent reads and writes them; no sockets here.

libevent is TensorFlow Serving's HTTP server. Its error pages, its reasons and its order of headers
are kept. It has no limits and no trust in a body that a GET carries, which it takes for the next
request; here such a body is read and dropped, and every part of a request has a limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_HEAD_BYTES",
    "HttpError",
    "Reply",
    "Request",
    "RequestParser",
    "error_page",
    "render",
]

MAX_HEAD_BYTES = 64 * 1024
# Some 17 images of 480x640 as JSON. Its tree of Python objects may be 20 times as large, and there
# is one tree at a time.
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_CHUNK_LINE_BYTES = 1024

METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")

_REQUEST_LINE = re.compile(r"([^ ]*) ([^ ]*) HTTP/1\.(\d{1,3})")
# One loop over one alternative each: with a loop in a loop a bad target takes for ever.
_CHARACTER = r"[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2}"
_TARGET = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*)?"  # the origin, which a proxy's client sends too
    rf"(?P<target>(?P<path>(?:{_CHARACTER})*)"
    rf"(?:\?(?:{_CHARACTER}|\?)*)?(?:#(?:{_CHARACTER}|\?)*)?)"
)
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}(?:[ ;].*)?")
# Where libevent knows another reason than Python, or none.
_REASONS = {
    408: "Request Time-out",
    429: "Client Error",
    499: "Client Error",
    504: "Gateway Time-out",
}


class HttpError(Exception):
    """A request that is not understood: its connection ends with an error page."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class Request:
    """A request.

    Args:
        method: In capitals.
        target: Path, query and fragment.
        headers: Name in small letters -> value.
        body: As sent, perhaps compressed.
        minor_version: Of HTTP/1.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    minor_version: int = 1

    @property
    def path(self) -> str:
        """The target without query and fragment."""
        return re.split(r"[?#]", self.target, maxsplit=1)[0]

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection is for more requests."""
        connection = self.headers.get("connection", "").lower()
        if self.minor_version == 0:
            return connection.startswith("keep-alive")
        return connection != "close"


class Reply(NamedTuple):
    """An answer.

    Args:
        status: HTTP's code.
        headers: Names and values, without those that `render` adds.
        body: What is sent after them.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def error_page(status: int) -> Reply:
    """What libevent answers by itself, before it closes the connection."""
    reason = _reason(status)
    page = (
        f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n"
        f"<H1>{reason}</H1>\n</BODY></HTML>\n"
    )
    return Reply(status, (("Content-Type", "text/html"), ("Connection", "close")), page.encode())


def render(reply: Reply, request: Request, *, last: bool = False) -> tuple[bytes, bool]:
    """The bytes of a reply.

    Args:
        reply: What to answer.
        request: What is answered.
        last: Whether to end the connection although the client would keep it.

    Returns:
        The bytes, and whether the connection is kept.
    """
    keep = request.keeps_alive and not last and ("Connection", "close") not in reply.headers
    headers = [header for header in reply.headers if header != ("Connection", "close")]
    if request.minor_version >= 1:
        headers.append(("Date", formatdate(usegmt=True)))
    if request.method != "HEAD":
        headers.append(("Content-Length", str(len(reply.body))))
    if not keep:
        headers.append(("Connection", "close"))
    elif request.minor_version == 0:
        headers.append(("Connection", "keep-alive"))
    lines = [f"HTTP/1.{request.minor_version} {reply.status} {_reason(reply.status)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
    return head + (b"" if request.method == "HEAD" else reply.body), keep


class RequestParser:
    """Makes requests of the bytes of a connection, in any pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # bytes in which the end of the head is not
        self._head: Request | None = None
        self._length: int | None = None  # of the body; None while it comes in chunks
        self._chunks = bytearray()
        self._in_trailer = False

    @property
    def buffered(self) -> int:
        """Bytes held."""
        return len(self._buffer) + len(self._chunks)

    @property
    def is_reading(self) -> bool:
        """Whether a request has begun and is not complete."""
        return bool(self._buffer) or self._head is not None

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for a word before it sends the body."""
        if self._head is None or self._buffer or self._length == 0:
            return False
        return "expect" in self._head.headers and self._head.minor_version >= 1

    def feed(self, data: bytes) -> None:
        """Adds bytes."""
        self._buffer += data

    def next_request(self) -> Request | None:
        """The next request, or None until it is complete.

        Raises:
            HttpError: The bytes are no request, or too many.
        """
        if self._head is None:
            self._head = self._read_head()
            if self._head is None:
                return None
            self._length = _body_length(self._head)
        body = self._read_body()
        if body is None:
            return None
        head, self._head = self._head, None
        return Request(head.method, head.target, head.headers, body, head.minor_version)

    def _read_head(self) -> Request | None:
        if not self._searched:
            # Empty lines before a request are left over from a careless client.
            del self._buffer[: len(self._buffer) - len(self._buffer.lstrip(b"\r\n"))]
        found = _HEAD_END.search(self._buffer, max(0, self._searched - 3))
        if (found.start() if found else len(self._buffer)) > MAX_HEAD_BYTES:
            raise HttpError(HTTPStatus.BAD_REQUEST)
        if found is None:
            self._searched = len(self._buffer)
            return None
        head = self._buffer[: found.start()].decode("latin-1")
        del self._buffer[: found.end()]
        self._searched = 0
        return _parse_head(head)

    def _read_body(self) -> bytes | None:
        if self._length is None:
            return self._read_chunks()
        if len(self._buffer) < self._length:
            return None
        return self._take(self._length)

    def _read_chunks(self) -> bytes | None:
        while True:
            end = self._buffer.find(b"\n")
            if end < 0 or end > MAX_CHUNK_LINE_BYTES:
                if len(self._buffer) > MAX_CHUNK_LINE_BYTES:
                    raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return None
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            if self._in_trailer:
                del self._buffer[: end + 1]
                if not line:
                    return self._end_chunks()
                continue
            if not line:  # the end of the chunk before
                del self._buffer[: end + 1]
                continue
            if not _CHUNK_SIZE.fullmatch(line):
                raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)  # so libevent calls it
            size = int(re.split(rb"[ ;]", line, maxsplit=1)[0], 16)
            if len(self._chunks) + size > MAX_BODY_BYTES:
                raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            if len(self._buffer) < end + 1 + size:
                return None
            del self._buffer[: end + 1]
            self._in_trailer = size == 0
            self._chunks += self._take(size)

    def _end_chunks(self) -> bytes:
        body = bytes(self._chunks)
        self._chunks, self._in_trailer = bytearray(), False
        return body

    def _take(self, size: int) -> bytes:
        with memoryview(self._buffer) as view:
            taken = bytes(view[:size])
        del self._buffer[:size]
        return taken


def _parse_head(head: str) -> Request:
    first, *lines = re.split(r"\r?\n", head)
    found = _REQUEST_LINE.fullmatch(first)
    if found is None or "\0" in head:
        raise HttpError(HTTPStatus.BAD_REQUEST)
    method, uri, minor = found.groups()
    headers: dict[str, str] = {}
    name = ""
    for line in lines:
        if line[0] in " \t":  # goes on where the line before ended
            if not name:
                raise HttpError(HTTPStatus.BAD_REQUEST)
            headers[name] += " " + line.strip(" \t")
            continue
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or (name == "content-length" and headers.get(name, value) != value):
            raise HttpError(HTTPStatus.BAD_REQUEST)
        headers.setdefault(name, value.strip(" \t"))
    if method not in METHODS:
        raise HttpError(HTTPStatus.NOT_IMPLEMENTED)
    target = _TARGET.fullmatch(uri)
    if target is None or target["path"].startswith("//"):
        raise HttpError(HTTPStatus.BAD_REQUEST)
    return Request(method, target["target"], headers, minor_version=int(minor))


def _body_length(head: Request) -> int | None:
    """How long the body is; None if that shows only as it comes."""
    coding = head.headers.get("transfer-encoding")
    length = head.headers.get("content-length")
    if head.headers.get("expect", "100-continue").lower() != "100-continue":
        raise HttpError(HTTPStatus.EXPECTATION_FAILED)
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise HttpError(HTTPStatus.BAD_REQUEST)
        return None
    if length is None:
        return 0
    if not re.fullmatch(r"[0-9]{1,19}", length):
        raise HttpError(HTTPStatus.BAD_REQUEST)
    if int(length) > MAX_BODY_BYTES:
        raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return int(length)


def _reason(status: int) -> str:
    return _REASONS.get(status) or HTTPStatus(status).phrase
