from __future__ import annotations

import re
import time

import pytest

from segkit.serving.rest import message
from segkit.serving.rest.message import (
    HttpError,
    Reply,
    Request,
    RequestParser,
    error_page,
    render,
)

POST = b"POST /v1/models/x:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
CHUNKED = (
    b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4\r\nbody\r\n00A;name=value\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
)


def parse(raw: bytes) -> list[Request]:
    parser = RequestParser()
    parser.feed(raw)
    requests = []
    while (request := parser.next_request()) is not None:
        requests.append(request)
    assert parser.is_reading == bool(parser.buffered or parser._head)
    return requests


def refused(raw: bytes) -> int:
    with pytest.raises(HttpError) as caught:
        parse(raw)
    return caught.value.status


def test_a_request_is_read() -> None:
    (request,) = parse(POST)
    assert request == Request(
        "POST", "/v1/models/x:predict", {"host": "a", "content-length": "4"}, b"body", 1
    )
    assert request.path == "/v1/models/x:predict"
    assert request.keeps_alive


@pytest.mark.parametrize("raw", [POST, CHUNKED, POST * 2, b"\r\n\r\n" + POST + CHUNKED])
def test_requests_come_in_any_pieces(raw: bytes) -> None:
    expected = parse(raw)
    assert expected
    for size in (1, 2, 3, 7, 50):
        parser = RequestParser()
        got = []
        for begin in range(0, len(raw), size):
            parser.feed(raw[begin : begin + size])
            while (request := parser.next_request()) is not None:
                got.append(request)
        assert got == expected
        assert not parser.is_reading and parser.buffered == 0


def test_chunks_are_joined() -> None:
    (request,) = parse(CHUNKED)
    assert request.body == b"body0123456789"


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"HTTP/1.1\r\n", True),
        (b"HTTP/1.1\r\nConnection: Close\r\n", False),
        (b"HTTP/1.1\r\nConnection: keep-alive\r\n", True),
        (b"HTTP/1.0\r\n", False),
        (b"HTTP/1.0\r\nconnection: Keep-Alive\r\n", True),
    ],
)
def test_who_wants_to_keep_the_connection(head: bytes, keeps: bool) -> None:
    (request,) = parse(b"GET / " + head + b"\r\n")
    assert request.keeps_alive is keeps


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        (b"/a/b?c=d?/#e?", "/a/b?c=d?/#e?"),
        (b"/%41~!$&'()*+,;=:@-._", "/%41~!$&'()*+,;=:@-._"),
        (b"http://host:80/a?b", "/a?b"),
        (b"http://host", ""),
        (b"*", "*"),
    ],
)
def test_targets(uri: bytes, target: str) -> None:
    (request,) = parse(b"OPTIONS " + uri + b" HTTP/1.1\r\n\r\n")
    assert request.target == target


def test_lines_may_end_in_any_way_and_go_on() -> None:
    (request,) = parse(b"GET / HTTP/1.1\nA:  1 \n\t2\r\nb:\r\nB: 2\n\n")
    assert request.headers == {"a": "1 2", "b": ""}


def test_a_get_may_have_a_body() -> None:
    first, second = parse(POST.replace(b"POST", b"GET") + POST)
    assert (first.method, first.body, second.method) == ("GET", b"body", "POST")


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"GET / http/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /\xe9 HTTP/1.1\r\n\r\n",
        b"GET /%4 HTTP/1.1\r\n\r\n",
        b'GET /"<> HTTP/1.1\r\n\r\n',
        b"GET //a HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n goes on\r\n\r\n",
        b"GET / HTTP/1.1\r\na: \0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 4, 4\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: \r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    assert refused(raw) == 400


@pytest.mark.parametrize(
    "target",
    [b"/" + b"a" * 60_000, b"/?" + b"a?" * 30_000, b"/?#" + b"%41" * 20_000, b"a" * 60_000],
)
def test_bad_targets_are_refused_soon(target: bytes) -> None:
    begin = time.perf_counter()
    assert refused(b"GET " + target + b'" HTTP/1.1\r\n\r\n') == 400
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT", b"get", b"BREW", b""])
def test_other_methods_are_not_implemented(method: bytes) -> None:
    assert refused(method + b" / HTTP/1.1\r\n\r\n") == 501


def test_other_expectations_fail() -> None:
    assert refused(b"POST / HTTP/1.1\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n") == 417


@pytest.mark.parametrize("size", [b"x", b"-1", b"", b"1x", b"0x1", b"F" * 16, b"4 " + b"0" * 2000])
def test_chunks_have_sizes(size: bytes) -> None:
    raw = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nbody\r\n"
    if not size:  # an empty line is passed over
        raw += b"x\r\n"
    assert refused(raw) == 413


def test_heads_have_a_limit() -> None:
    line = b"GET / HTTP/1.1\r\na: "
    room = message.MAX_HEAD_BYTES - len(line)
    assert len(parse(line + b"b" * room + b"\r\n\r\n")) == 1
    assert refused(line + b"b" * (room + 1) + b"\r\n\r\n") == 400
    assert refused(line + b"b" * (room + 1)) == 400


def test_bodies_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message, "MAX_BODY_BYTES", 4)
    (request,) = parse(POST)
    assert request.body == b"body"
    assert refused(POST.replace(b": 4", b": 5")) == 413
    assert refused(CHUNKED) == 413


def test_a_client_may_wait_for_a_word() -> None:
    for raw, waits in (
        (b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 4\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", True),
        (b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", False),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbo", False),
        (b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n", False),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\n", False),
    ):
        parser = RequestParser()
        parser.feed(raw)
        assert parser.next_request() is None
        assert parser.wants_continue is waits


def without_date(raw: bytes) -> bytes:
    return re.sub(rb"Date: [A-Z][a-z]{2}, [\w :]+ GMT\r\n", b"Date\r\n", raw)


def test_a_reply_is_rendered() -> None:
    reply = Reply(200, (("Content-Type", "text/plain"),), b"hello")
    raw, keep = render(reply, Request("GET", "/"))
    assert keep
    assert without_date(raw) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate\r\nContent-Length: 5\r\n\r\nhello"
    )


def test_a_reply_to_head_has_no_body() -> None:
    raw, keep = render(Reply(200, (), b"hello"), Request("HEAD", "/"))
    assert keep
    assert without_date(raw) == b"HTTP/1.1 200 OK\r\nDate\r\n\r\n"


def test_a_reply_says_what_becomes_of_the_connection() -> None:
    close = {"connection": "close"}
    stay = {"connection": "keep-alive"}
    for request, last, word, kept in (
        (Request("GET", "/", close), False, b"\r\nConnection: close\r\n", False),
        (Request("GET", "/"), True, b"\r\nConnection: close\r\n", False),
        (
            Request("GET", "/", stay, minor_version=0),
            False,
            b"\r\nConnection: keep-alive\r\n",
            True,
        ),
        (Request("GET", "/", minor_version=0), False, b"\r\nConnection: close\r\n", False),
    ):
        raw, keep = render(Reply(200), request, last=last)
        assert keep is kept
        assert word in raw and raw.count(b"Connection") == 1
        assert raw.startswith(b"HTTP/1.%d 200 OK\r\n" % request.minor_version)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "Bad Request"),
        (409, "Conflict"),
        (413, "Request Entity Too Large"),
        (429, "Client Error"),
        (499, "Client Error"),
        (501, "Not Implemented"),
        (503, "Service Unavailable"),
        (504, "Gateway Time-out"),
    ],
)
def test_reasons_are_those_of_libevent(status: int, reason: str) -> None:
    raw, _ = render(Reply(status), Request("GET", "/"))
    assert raw.startswith(f"HTTP/1.1 {status} {reason}\r\n".encode())


def test_an_error_page_is_libevents_and_ends_the_connection() -> None:
    raw, keep = render(error_page(404), Request("GET", "/"))
    assert not keep
    assert without_date(raw) == (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nDate\r\nContent-Length: 90\r\n"
        b"Connection: close\r\n\r\n"
        b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n"
        b"<H1>Not Found</H1>\n</BODY></HTML>\n"
    )
