"""The connections of the REST API's server; all that is here runs in the thread of its loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from segkit.serving.rest.message import (
    HttpError,
    Reply,
    Request,
    RequestParser,
    error_page,
    render,
)

__all__ = ["Api", "Hub", "Limits"]

logger = logging.getLogger(__name__)

BACKLOG = 128
LINGER_SECONDS = 2.0  # in which a client that still sends can read why that is in vain
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
NO_REQUEST = Request("", "")  # what an error page answers where none is understood


class Api(Protocol):
    """What answers requests; called by several threads."""

    def answer(self, request: Request) -> Reply:
        """Answers a request."""
        ...


@dataclass(frozen=True)
class Limits:
    """What a client may take.

    Args:
        connections: At the same time; more are answered 503.
        buffered_bytes: Of all requests that are not answered yet; more are answered 503.
        idle_seconds: Between two pieces of a request, or of reading a reply. libevent's.
        request_seconds: For a request as a whole.
    """

    connections: int = 512
    buffered_bytes: int = 256 * 1024 * 1024
    idle_seconds: float = 50.0
    request_seconds: float = 300.0


class Hub:
    """All connections of a server; everything runs in the loop's thread."""

    def __init__(
        self, api: Api, threads: int, limits: Limits, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.api, self.limits, self.loop = api, limits, loop
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self.connections: set[_Connection] = set()
        self.buffered = 0
        self.draining = False
        self._server: asyncio.Server | None = None
        self._all_closed = asyncio.Event()

    async def listen(self, listener: socket.socket) -> None:
        """Takes connections from a bound socket."""
        self._server = await self.loop.create_server(
            lambda: _Connection(self), sock=listener, backlog=BACKLOG
        )

    async def drain(self, grace_s: float) -> None:
        """Takes no more, and waits so long for those that have asked something."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close_if_idle()
        self._all_closed.clear()
        if self.connections:
            try:
                await asyncio.wait_for(self._all_closed.wait(), grace_s)
            except TimeoutError:
                logger.warning("REST: cut off %d requests", len(self.connections))
        for connection in list(self.connections):
            connection.abort()
        self.pool.shutdown(wait=False, cancel_futures=True)

    def remove(self, connection: _Connection) -> None:
        """Forgets a connection that has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self._all_closed.set()


class _Connection(asyncio.Protocol):
    """One client: reads a request, has it answered, reads the next."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._parser = RequestParser()
        self._transport: asyncio.Transport | None = None
        self._held = 0  # bytes counted in hub.buffered
        self._answering: Request | None = None
        self._told_to_continue = False
        self._failed = False
        self._writing_blocked = False
        self._unread = 0  # bytes of a reply that the client had not read when last looked at
        self._began = 0.0  # when the request did that is being read
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        hub = self._hub
        full = len(hub.connections) >= hub.limits.connections
        hub.connections.add(self)
        self._extend_deadline()
        self._watch()
        if full or hub.draining:
            self._fail(HTTPStatus.SERVICE_UNAVAILABLE)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        if self._answering is None:
            self._hold(0)
        self._hub.remove(self)

    def pause_writing(self) -> None:
        self._writing_blocked = True

    def resume_writing(self) -> None:
        self._writing_blocked = False
        self._go_on()

    def data_received(self, data: bytes) -> None:
        if self._failed:
            return
        if not self._parser.is_reading:
            self._began = self._hub.loop.time()
            self._told_to_continue = False
        self._parser.feed(data)
        self._hold(self._parser.buffered)
        self._extend_deadline()
        if self._hub.buffered > self._hub.limits.buffered_bytes:
            self._fail(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self._go_on()

    def close_if_idle(self) -> None:
        """Ends a connection on which no request has begun."""
        idle = self._failed or (self._answering is None and not self._parser.is_reading)
        if idle and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _go_on(self) -> None:
        """Has the next request answered, if it is complete."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._answering is not None:
            return
        if self._writing_blocked:  # by a client that asks but does not read
            return
        try:
            request = self._parser.next_request()
        except HttpError as err:
            self._fail(err.status)
            return
        if request is None:
            if self._parser.wants_continue and not self._told_to_continue:
                self._told_to_continue = True
                transport.write(CONTINUE)
            transport.resume_reading()
            return
        self._answering = request
        transport.pause_reading()  # what the client sends meanwhile waits in its own memory
        self._hold(self._parser.buffered + len(request.body))
        future = self._hub.loop.run_in_executor(self._hub.pool, self._hub.api.answer, request)
        future.add_done_callback(self._send)

    def _send(self, future: asyncio.Future[Reply]) -> None:
        request, self._answering = self._answering, None
        self._hold(self._parser.buffered if self._transport is not None else 0)
        if request is None or self._transport is None or future.cancelled():
            return
        error = future.exception()
        if error is not None:
            logger.error("the REST API failed", exc_info=error)
            reply = error_page(HTTPStatus.INTERNAL_SERVER_ERROR)
        else:
            reply = future.result()
        raw, keep = render(reply, request, last=self._hub.draining)
        self._extend_deadline()
        self._transport.write(raw)
        self._unread = self._transport.get_write_buffer_size()
        if keep:
            self._began = self._hub.loop.time()
            self._go_on()
        else:
            self._transport.close()

    def _fail(self, status: int) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._failed = True
        self._parser = RequestParser()
        self._hold(0)
        self._transport.write(render(error_page(status), NO_REQUEST)[0])
        # To close now would make the client's system drop the page if more is on its way here.
        self._transport.write_eof()
        self._deadline = self._hub.loop.time() + LINGER_SECONDS
        self._watch()

    def _hold(self, count: int) -> None:
        self._hub.buffered += count - self._held
        self._held = count

    def _extend_deadline(self) -> None:
        limits, now = self._hub.limits, self._hub.loop.time()
        self._deadline = now + limits.idle_seconds
        if self._parser.is_reading:
            self._deadline = min(self._deadline, self._began + limits.request_seconds)

    def _watch(self) -> None:
        """Ends the connection once its client has been silent for too long."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is None:
            return
        unread, self._unread = self._unread, self._transport.get_write_buffer_size()
        if self._answering is not None or self._unread < unread:
            self._deadline = self._hub.loop.time() + self._hub.limits.idle_seconds
        delay = self._deadline - self._hub.loop.time()
        if delay <= 0:
            self._transport.abort()
        else:
            self._timer = self._hub.loop.call_later(delay, self._watch)
