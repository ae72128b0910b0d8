"""The HTTP server over sockets, with an API that only says what it was asked."""

from __future__ import annotations

import contextlib
import gc
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import psutil
import pytest

from segkit.errors import ConfigError
from segkit.serving.rest.message import Reply, Request
from segkit.serving.rest.server import Limits, RestServer

PATIENCE_SECONDS = 20
LONG = 3_000_000


class Echo:
    """Answers with the request; "/wait" does so when it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.waiting = threading.Semaphore(0)

    def answer(self, request: Request) -> Reply:
        if request.path == "/wait":
            self.waiting.release()
            assert self.go.wait(PATIENCE_SECONDS)
        if request.path == "/fail":
            raise RuntimeError("a bug")
        if request.path == "/long":
            return Reply(200, (), b"x" * LONG)
        text = f"{request.method} {request.target} {len(request.body)}"
        return Reply(200, (("Content-Type", "text/plain"),), text.encode())


@contextlib.contextmanager
def serving(api: Any, threads: int = 2, **limits: Any) -> Iterator[RestServer]:
    server = RestServer(api, threads=threads, limits=Limits(**limits))
    server.start()
    try:
        yield server
    finally:
        server.stop(0.1)


@pytest.fixture
def api() -> Iterator[Echo]:
    api = Echo()
    yield api
    api.go.set()


@pytest.fixture
def server(api: Echo) -> Iterator[RestServer]:
    with serving(api) as server:
        yield server


def connect(server: RestServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS)


def ask(server: RestServer, method: str, target: str, body: Any = None) -> tuple[int, bytes]:
    with contextlib.closing(
        HTTPConnection("127.0.0.1", server.port, PATIENCE_SECONDS)
    ) as connection:
        connection.request(method, target, body)
        reply = connection.getresponse()
        return reply.status, reply.read()


def read_reply(client: socket.socket, method: str = "GET") -> tuple[int, bytes]:
    reply = HTTPResponse(client, method=method)
    reply.begin()
    return reply.status, reply.read()


def read_all(client: socket.socket) -> bytes:
    parts = []
    while part := client.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def workers() -> int:
    """How many threads answer requests."""
    return sum(thread.name.startswith("rest_") for thread in threading.enumerate())


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_requests_are_answered(server: RestServer) -> None:
    assert ask(server, "GET", "/a?b") == (200, b"GET /a?b 0")
    assert ask(server, "POST", "/a", b"x" * LONG) == (200, b"POST /a 3000000")
    assert ask(server, "GET", "/long") == (200, b"x" * LONG)


def test_a_connection_serves_many_requests(server: RestServer) -> None:
    with contextlib.closing(HTTPConnection("127.0.0.1", server.port)) as connection:
        for number in range(20):
            connection.request("POST", f"/{number}", b"x" * number)
            assert connection.getresponse().read() == f"POST /{number} {number}".encode()
        connection.request("HEAD", "/")
        assert connection.getresponse().read() == b""
        connection.request("GET", "/", headers={"Connection": "close"})
        reply = connection.getresponse()
        assert (reply.getheader("Connection"), reply.read()) == ("close", b"GET / 0")


def test_requests_may_be_sent_ahead(server: RestServer) -> None:
    with connect(server) as client:
        client.sendall(
            b"".join(
                b"POST /%d HTTP/1.1\r\nContent-Length: 2\r\n\r\nab" % number for number in range(50)
            )
            + b"GET /last HTTP/1.0\r\n\r\n"
        )
        text = read_all(client).decode()
    assert [f"POST /{number} 2" in text for number in range(50)] == [True] * 50
    assert text.endswith("GET /last 0")
    assert text.index("/48 ") < text.index("/49 ") < text.index("/last")


def test_a_client_that_sends_ahead_but_does_not_read_is_not_answered_without_end(
    api: Echo, server: RestServer
) -> None:
    process = psutil.Process()
    with connect(server) as client:
        before = process.memory_info().rss
        client.settimeout(1)
        with contextlib.suppress(TimeoutError):
            client.sendall(b"GET /long HTTP/1.1\r\n\r\n" * 5000)  # 15 GB of replies
        time.sleep(0.2)
        assert process.memory_info().rss - before < 100_000_000
        assert ask(server, "GET", "/") == (200, b"GET / 0")


def test_chunks_and_expectations(server: RestServer) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(10):
            yield b"x" * 1000

    assert ask(server, "POST", "/a", chunks()) == (200, b"POST /a 10000")
    with connect(server) as client:
        client.sendall(b"POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"bo")
        time.sleep(0.05)
        client.sendall(b"dy")
        assert read_reply(client) == (200, b"POST /a 4")


def test_what_is_not_understood_gets_a_page_and_no_more(server: RestServer) -> None:
    with connect(server) as client:
        client.sendall(b"what?\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        text = read_all(client)
    assert text.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n")
    assert text.endswith(b"<H1>Bad Request</H1>\n</BODY></HTML>\n")


def test_who_sends_too_much_can_read_so(server: RestServer) -> None:
    with connect(server) as client:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n")
        client.sendall(b"x" * 10_000_000)
        assert read_reply(client)[0] == 413


def test_a_bug_in_the_api_is_logged_and_costs_one_connection(
    server: RestServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(server, "GET", "/fail")[0] == 500
    assert "RuntimeError: a bug" in caplog.text
    assert ask(server, "GET", "/") == (200, b"GET / 0")


def test_idle_clients_hold_no_thread(api: Echo, server: RestServer) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(50)]
        for client in clients[:25]:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nx")
        assert ask(server, "GET", "/") == (200, b"GET / 0")
        assert workers() <= 2


def test_as_many_requests_run_as_there_are_threads(api: Echo, server: RestServer) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(4)]
        for client in clients:
            client.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
        for _ in range(2):
            assert api.waiting.acquire(timeout=PATIENCE_SECONDS)
        assert not api.waiting.acquire(timeout=0.1)
        api.go.set()
        for client in clients:
            assert read_reply(client) == (200, b"GET /wait 0")


def test_more_connections_than_allowed_are_turned_away(api: Echo) -> None:
    with serving(api, connections=2) as server, connect(server) as first, connect(server) as second:
        for client in (first, second):
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert read_reply(client)[0] == 200
        with connect(server) as third:
            assert read_reply(third)[0] == 503
        first.close()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while ask(server, "GET", "/")[0] == 503:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_more_bytes_than_can_be_held_are_turned_away(api: Echo) -> None:
    with serving(api, buffered_bytes=1_000_000) as server, connect(server) as greedy:
        greedy.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 1_500_000)
        assert read_reply(greedy)[0] == 503
        assert ask(server, "POST", "/", b"x" * 900_000) == (200, b"POST / 900000")
        assert ask(server, "POST", "/", b"x" * 900_000) == (200, b"POST / 900000")


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"]
)
def test_silent_clients_are_cut_off(api: Echo, sent: bytes) -> None:
    with serving(api, idle_seconds=0.2) as server, connect(server) as client:
        client.sendall(sent)
        begin = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        assert 0.1 < time.monotonic() - begin < 5


def test_slow_clients_are_cut_off(api: Echo) -> None:
    with serving(api, idle_seconds=0.3, request_seconds=0.6) as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")  # what was before does not count
        assert read_reply(client)[0] == 200
        begin = time.monotonic()
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 10000\r\n\r\n")
        with pytest.raises(ConnectionError):
            while time.monotonic() - begin < 5:
                client.sendall(b"x")
                time.sleep(0.02)
        assert 0.3 < time.monotonic() - begin < 4


def test_clients_that_do_not_read_are_cut_off(api: Echo) -> None:
    with serving(api, idle_seconds=0.3) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE_SECONDS)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /long HTTP/1.1\r\n\r\n")
        time.sleep(1)
        with contextlib.suppress(ConnectionResetError):
            assert len(read_all(client)) < LONG


def test_an_answer_may_take_longer_than_a_client_may_be_silent(api: Echo) -> None:
    with serving(api, idle_seconds=0.1, request_seconds=0.1) as server, connect(server) as client:
        client.sendall(b"GET /wait HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        time.sleep(0.5)
        api.go.set()
        assert read_reply(client) == (200, b"GET /wait 0")


def test_stopping_finishes_what_has_begun_and_refuses_the_rest(api: Echo) -> None:
    server = RestServer(api, threads=2)
    server.start()
    with connect(server) as busy, connect(server) as sending, connect(server) as idle:
        busy.sendall(b"GET /wait HTTP/1.1\r\n\r\nGET /never HTTP/1.1\r\n\r\n")
        sending.sendall(b"POST /sent HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert sending.recv(100).startswith(b"HTTP/1.1 100")
        assert api.waiting.acquire(timeout=PATIENCE_SECONDS)
        stopping = threading.Thread(target=server.stop, args=(PATIENCE_SECONDS,))
        stopping.start()
        assert idle.recv(1) == b""
        assert not is_open(server.port)
        sending.sendall(b"body")
        assert b"Connection: close\r\n" in read_all(sending)
        assert stopping.is_alive()
        api.go.set()
        text = read_all(busy)
        assert b"Connection: close\r\n" in text and text.endswith(b"GET /wait 0")
        stopping.join(PATIENCE_SECONDS)
        assert not stopping.is_alive()


def test_stopping_cuts_off_what_does_not_end(api: Echo, caplog: pytest.LogCaptureFixture) -> None:
    server = RestServer(api, threads=2)
    server.start()
    with connect(server) as stuck, connect(server) as too:
        for client in (stuck, too):
            client.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
            assert api.waiting.acquire(timeout=PATIENCE_SECONDS)
        begin = time.monotonic()
        server.stop(0.2)
        assert 0.1 < time.monotonic() - begin < 5
        for client in (stuck, too):
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
    assert "cut off 2 requests" in caplog.text
    api.go.set()
    server.stop()  # once more does no harm


def test_a_server_that_was_not_started_can_be_stopped() -> None:
    RestServer(Echo()).stop()


def test_nothing_is_left_of_a_stopped_server(api: Echo) -> None:
    def open_files() -> int:
        return psutil.Process().num_fds()

    before, threads = open_files(), threading.active_count()
    for _ in range(5):
        with serving(api) as server, connect(server) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\nGET")
            assert read_reply(client) == (200, b"GET / 0")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    gc.collect()
    assert open_files() <= before and threading.active_count() <= threads


def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: ") as caught:
            RestServer(Echo(), port=port).start()
    assert "--rest_api_port" in caught.value.next_step


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_all_addresses_are_those_of_both_families() -> None:
    server = RestServer(Echo(), "[::]")
    server.start()
    try:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, server.port), PATIENCE_SECONDS) as client:
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert read_reply(client) == (200, b"GET / 0")
    finally:
        server.stop(0.1)


def test_any_bytes_leave_the_server_as_it_was(server: RestServer) -> None:
    """Noise, pieces of requests, connections that are reset: none costs memory or a thread."""
    rng = random.Random(11)
    good = (
        b"POST /v1/models/x:predict HTTP/1.1\r\nContent-Length: 30\r\n\r\n"
        + json.dumps({"instances": [1, 2, 3]}).encode()
    )

    def bother(count: int) -> None:
        for _ in range(count):
            data = bytearray(good * rng.randint(1, 3))
            kind = rng.random()
            if kind < 0.4:
                data = bytearray(rng.randbytes(rng.randint(0, 300)))
            elif kind < 0.9:
                for _ in range(rng.randint(1, 5)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
            del data[rng.randint(0, len(data)) :]
            with connect(server) as client, contextlib.suppress(ConnectionError):
                client.sendall(data)
                if rng.random() < 0.5:  # close by a reset
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif rng.random() < 0.5:
                    client.shutdown(socket.SHUT_WR)
                    read_all(client)

    process = psutil.Process()
    bother(300)
    memory = process.memory_info().rss
    bother(1000)
    assert workers() <= 2
    assert process.memory_info().rss < memory * 1.05
    assert ask(server, "GET", "/") == (200, b"GET / 0")
