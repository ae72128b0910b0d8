"""PageServer: a small HTTP server in one thread, for a page that few people look at.

All connections share one event loop, so that a viewer who stalls costs neither a thread nor
memory. Requests are checked as a browser's must be: a page of another site can neither move the
controls (Origin) nor, by a name that it resolves to this machine, look at the picture (Host).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

from segkit.errors import ConfigError, VideoError

__all__ = ["PageServer", "Request", "Response", "Stream", "parse_address"]

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
LONGEST_HEAD, LONGEST_BODY = 16384, 4096  # bytes
REQUEST_SECONDS = 5.0  # for a whole request to arrive
STALL_SECONDS = 20.0  # without progress, a viewer is let go
UNSENT_BYTES = 65536  # that may lie in the system's buffer: what lies there is already old

HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Request:
    """What a browser asks. Names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """A whole answer."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stream:
    """An answer without an end; a chunk is asked for when the one before has left."""

    chunks: AsyncIterator[bytes]
    content_type: str


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of "host:port", "http://host:port", "[::1]:port", or a port of this machine.

    Raises:
        ConfigError: It is none of these.
    """
    bare = f"127.0.0.1:{text}" if text.isdecimal() else text.removeprefix("http://").rstrip("/")
    try:
        parts = urlsplit(f"//{bare}")
        if parts.netloc != bare or not parts.hostname or parts.port is None or "@" in bare:
            raise ValueError
    except ValueError as err:
        raise ConfigError(
            f"'{text}' is no address for the page",
            expected="host:port, such as 127.0.0.1:8080; 0.0.0.0:8080 for every network",
            next_step="correct --view",
        ) from err
    return parts.hostname, parts.port


class PageServer:
    """Answers from the moment it is made until `stop`.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        answer: Answers a request that passed the checks; called in the server's thread.

    Raises:
        VideoError: It cannot listen there.
    """

    def __init__(
        self, host: str, port: int, answer: Callable[[Request], Response | Stream]
    ) -> None:
        listener = _listen(host, port)
        self.port: int = listener.getsockname()[1]
        self._answer = answer
        # Names under which a browser may ask. Another one may be a trick, an address never is.
        machine = socket.gethostname().lower()
        self._names = {"localhost", host.lower(), machine, f"{machine}.local"}
        self._connections: set[asyncio.Task[None]] = set()
        self.loop = asyncio.new_event_loop()
        self._server: asyncio.Server = self.loop.run_until_complete(
            asyncio.start_server(self._connected, sock=listener, limit=LONGEST_HEAD)
        )
        self._thread = threading.Thread(target=self.loop.run_forever, name="page", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Lets all viewers go and ends."""
        if self.loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._drain(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _drain(self) -> None:
        self._server.close()
        await asyncio.sleep(0)  # one that has just been accepted becomes a task
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.sleep(0)  # which begins before it is ended, so that it closes its socket
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # the viewer left, was too slow, or spoke something else
        except asyncio.CancelledError:
            pass  # the server stops; nobody waits for this task but `_drain`
        except Exception:
            logger.exception("the page failed to answer; the stream goes on")
        finally:
            self._connections.discard(task)
            # What a stalled viewer has not taken is not waited for.
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _tune(writer)
        if len(self._connections) > MAX_CONNECTIONS:
            answer: Response | Stream = _refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many connections"
            )
        else:
            async with asyncio.timeout(REQUEST_SECONDS):
                request = await _read(reader)
            if isinstance(request, Response):
                answer = request
            else:
                answer = self._refused(request) or self._answer(request)
        if isinstance(answer, Response):
            length = {"Content-Length": str(len(answer.body))}
            await _send(
                writer,
                _head(answer.status, answer.content_type, {**answer.headers, **length})
                + answer.body,
            )
        else:
            await _send(writer, _head(HTTPStatus.OK, answer.content_type, {}))
            await _pass_on(answer, reader, writer)

    def _refused(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        with suppress(ValueError):
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._names or _is_address(name):
                break_in = self._foreign(request, host)
                return _refusal(HTTPStatus.FORBIDDEN, break_in) if break_in else None
        return _refusal(HTTPStatus.MISDIRECTED_REQUEST, f"this machine is not called '{host}'")

    @staticmethod
    def _foreign(request: Request, host: str) -> str:
        """Why a request comes from somewhere else than the page; empty if it does not."""
        origin = request.headers.get("origin")
        if request.method == "POST" and origin not in (f"http://{host}", f"https://{host}"):
            return "only the page itself may move the controls"
        site = request.headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and request.path != "/":
            return "only the page itself may show this"
        return ""


async def _read(reader: asyncio.StreamReader) -> Request | Response:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.split("\r\n")[:-2]
    parts = line.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return _refusal(HTTPStatus.BAD_REQUEST, "this is no HTTP")
    headers = {}
    for entry in lines:
        name, _, value = entry.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not (length.isascii() and length.isdecimal()):
        return _refusal(HTTPStatus.LENGTH_REQUIRED, "the length of the body is not given")
    if len(length) > 9 or int(length) > LONGEST_BODY:
        return _refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too long")
    body = await reader.readexactly(int(length))
    return Request(parts[0], parts[1].partition("?")[0], headers, body)


async def _pass_on(
    answer: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Sends the chunks until the viewer leaves, which is seen even while there is none to send."""

    async def send() -> None:
        async with aclosing(answer.chunks) as chunks:  # type: ignore[type-var]  # a generator
            async for chunk in chunks:
                await _send(writer, chunk)

    sending = asyncio.ensure_future(send())
    leaving = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        results = await asyncio.gather(sending, leaving, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    async with asyncio.timeout(STALL_SECONDS):
        await writer.drain()


def _tune(writer: asyncio.StreamWriter) -> None:
    """A frame that waits in a buffer grows old there: at most one waits, and little of it."""
    writer.transport.set_write_buffer_limits(high=0)
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def _head(status: HTTPStatus, content_type: str, headers: Mapping[str, str]) -> bytes:
    fields = {"Content-Type": content_type, **HEADERS, **headers}
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _refusal(status: HTTPStatus, why: str) -> Response:
    return Response(f"{why}\n".encode(), status=status)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as err:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise VideoError(
            f"the page cannot be served at {where} ({getattr(err, 'strerror', None) or err})",
            expected="a free port on an address of this machine",
            next_step="choose another --view, or end what uses the port",
        ) from err
