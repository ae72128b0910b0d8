"""PageSink serves the newest picture to every viewer, and to no page of another site."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest

from segkit.errors import VideoError
from segkit.labels import LabelMap
from segkit.video import Controls, Frame, PageSink, SegmentedFrame
from segkit.video.sinks import page as page_module
from segkit.video.sinks import page_server


def segmented(index: int, picture: np.ndarray | None = None) -> SegmentedFrame:
    picture = np.full((48, 64, 3), index % 256, np.uint8) if picture is None else picture
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[:12] = 2
    frame = Frame(picture, index, Fraction(index, 25))
    return SegmentedFrame(frame, mask, picture, stage_ms={"server": 10.0 + index})


@pytest.fixture
def controls() -> Controls:
    return Controls(effects=("overlay", "blur"), can_record=True)


@pytest.fixture
def page(labels: LabelMap, controls: Controls) -> Iterator[PageSink]:
    with PageSink(
        "127.0.0.1:0", labels, controls, title="cam0", dropped=lambda: {"stale": 4}
    ) as sink:
        yield sink


def host(page: PageSink) -> str:
    return page.url.removeprefix("http://").removesuffix("/")


def ask(
    page: PageSink, path: str, method: str = "GET", body: str = "", **headers: str
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(host(page), timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body or None, named)
    return connection.getresponse()


def post(page: PageSink, changes: Any) -> http.client.HTTPResponse:
    return ask(page, "/controls", "POST", json.dumps(changes), Origin=f"http://{host(page)}")


def figures(page: PageSink) -> dict[str, Any]:
    return json.load(ask(page, "/figures"))


@contextmanager
def watching(page: PageSink) -> Iterator[Any]:
    """A stream of pictures: each call gives the next one."""
    response = ask(page, "/stream")
    assert response.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
    assert response.readline() == b"--frame\r\n"

    def take() -> np.ndarray:
        assert response.readline() == b"Content-Type: image/jpeg\r\n"
        length = int(response.readline().removeprefix(b"Content-Length: "))
        assert response.readline() == b"\r\n"
        jpeg = response.read(length)
        # The boundary comes with the picture, not with the next one: a browser waits for it.
        assert response.readline() + response.readline() == b"\r\n--frame\r\n"
        return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)

    try:
        yield take
    finally:
        response.close()


def eventually(true: Any, seconds: float = 10) -> None:
    end = time.perf_counter() + seconds
    while not true():
        assert time.perf_counter() < end
        time.sleep(0.01)


def test_a_viewer_sees_the_picture_and_then_the_newer_ones(page: PageSink) -> None:
    page.write(segmented(0, np.full((48, 64, 3), (200, 30, 60), np.uint8)))
    with watching(page) as take:
        assert take()[24, 32].tolist() == pytest.approx([60, 30, 200], abs=4)  # BGR
        for shade in (50, 100, 150):
            page.write(segmented(shade))
            assert take().mean() == pytest.approx(shade, abs=2)


def test_a_viewer_waits_for_the_first_picture(page: PageSink) -> None:
    with watching(page) as take:
        threading.Timer(0.1, page.write, [segmented(77)]).start()
        assert take().mean() == pytest.approx(77, abs=2)


def test_nothing_is_encoded_while_nobody_looks_and_once_for_all_who_do(
    page: PageSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    real = page_module._encode

    def counted(form: str, picture: np.ndarray, options: list[int]) -> bytes:
        encoded.append(int(picture[0, 0, 0]))
        return real(form, picture, options)

    monkeypatch.setattr(page_module, "_encode", counted)
    for index in range(50):
        page.write(segmented(index))
    assert figures(page)["frame"] == 49
    assert encoded == []
    with watching(page) as first, watching(page) as second:
        for take in (first, second):
            assert take().mean() == pytest.approx(49, abs=2)
        page.write(segmented(99))
        for take in (first, second):
            assert take().mean() == pytest.approx(99, abs=2)
    assert encoded == [49, 99]


def test_a_viewer_who_stalls_costs_the_stream_nothing(page: PageSink) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    stalled = socket.create_connection(host(page).split(":"))
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with stalled:
        stalled.sendall(f"GET /stream HTTP/1.1\r\nHost: {host(page)}\r\n\r\n".encode())
        eventually(lambda: page._viewers == 1)
        with watching(page) as take:
            tracemalloc.start()
            used, took = [], []
            for index in range(60):
                picture = noise.copy()
                picture[:240] = index
                start = time.perf_counter()
                page.write(segmented(index, picture))
                took.append(time.perf_counter() - start)
                assert take()[:230].mean() == pytest.approx(index, abs=3)
                used.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
        eventually(lambda: page._viewers == 1)
        assert max(took) < 1
        # 50 frames are 10 MB of JPEG: of all that the stalled viewer did not take, none is kept.
        assert abs(used[-1] - used[10]) < 1e6
    eventually(lambda: page._viewers == 0)


def test_a_viewer_who_stalls_for_long_is_let_go(
    page: PageSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_server, "STALL_SECONDS", 0.2)
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    with socket.create_connection(host(page).split(":")) as stalled:
        stalled.sendall(f"GET /stream HTTP/1.1\r\nHost: {host(page)}\r\n\r\n".encode())
        eventually(lambda: page._viewers == 1)

        def gone() -> bool:
            page.write(segmented(0, noise))
            return page._viewers == 0

        eventually(gone)


def test_a_viewer_who_leaves_is_forgotten_without_a_further_frame(page: PageSink) -> None:
    page.write(segmented(0))
    with watching(page) as take:
        take()
        assert figures(page)["viewers"] == 1
    eventually(lambda: figures(page)["viewers"] == 0)


def test_viewers_are_bounded(page: PageSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MAX_VIEWERS", 1)
    page.write(segmented(0))
    with watching(page) as take:
        take()
        refused = ask(page, "/stream")
        assert refused.status == 503
        assert refused.read() == b"1 viewers are the most\n"
        assert ask(page, "/figures").status == 200


def test_connections_are_bounded(page: PageSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "MAX_CONNECTIONS", 3)
    idle = [socket.create_connection(host(page).split(":")) for _ in range(3)]
    eventually(lambda: len(page._server._connections) == 3)
    assert ask(page, "/figures").status == 503
    for connection in idle:
        connection.close()
    eventually(lambda: not page._server._connections)
    assert ask(page, "/figures").status == 200


def test_who_says_nothing_is_not_waited_for(
    page: PageSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_server, "REQUEST_SECONDS", 0.1)
    with socket.create_connection(host(page).split(":"), timeout=10) as silent:
        silent.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert silent.recv(100) == b""


def test_figures_tell_what_is_known(page: PageSink) -> None:
    nothing = figures(page)
    assert (nothing["state"], nothing["frame"], nothing["fps"]) == ("waiting", None, 0)
    for index in range(3):
        page.write(segmented(index))
        time.sleep(0.02)
    told = figures(page)
    assert told["title"] == "cam0"
    assert told["state"] == "live"
    assert (told["frame"], told["time_s"], told["size"]) == (2, 0.08, [48, 64])
    assert 0 < told["fps"] < 50
    assert told["age_ms"] >= 0
    assert told["stage_ms"] == {"server": 11}
    assert told["dropped"] == {"stale": 4}
    assert told["classes"] == [
        {"name": "background", "color": "#000000", "share": 0.75},
        {"name": "road", "color": "#804080", "share": 0},
        {"name": "car", "color": "#400080", "share": 0.25},
    ]
    assert told["controls"]["opacity"] == 0.5
    assert told["effects"] == ["overlay", "blur"]


def test_a_page_that_waits_says_so(page: PageSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "WAITING_SECONDS", 0.05)
    page.write(segmented(0))
    time.sleep(0.1)
    assert figures(page)["state"] == "waiting"
    assert post(page, {"paused": True}).status == 200
    assert figures(page)["state"] == "paused"


def test_a_snapshot_is_the_picture_as_it_is(page: PageSink) -> None:
    assert ask(page, "/snapshot.png").status == 404
    picture = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    page.write(segmented(12, picture))
    response = ask(page, "/snapshot.png")
    assert 'filename="segkit-000012.png"' in response.headers["Content-Disposition"]
    seen = cv2.imdecode(np.frombuffer(response.read(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(cv2.cvtColor(seen, cv2.COLOR_BGR2RGB), picture)


def test_controls_are_moved(page: PageSink, controls: Controls) -> None:
    response = post(page, {"opacity": 0.3, "effect": "blur", "recording": True})
    assert response.status == 200
    assert json.load(response)["opacity"] == 0.3
    assert controls.settings.effect == "blur"
    assert controls.settings.recording


@pytest.mark.parametrize("changes", [{"opacity": 3}, {"effect": "rain"}, {"volume": 1}, [1], None])
def test_controls_that_cannot_be_are_refused(
    page: PageSink, controls: Controls, changes: Any
) -> None:
    before = controls.settings
    response = post(page, changes)
    assert response.status == 400
    assert json.load(response)["error"]
    assert controls.settings == before


def test_only_the_page_itself_moves_the_controls(page: PageSink, controls: Controls) -> None:
    for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        response = ask(page, "/controls", "POST", '{"opacity": 0.1}', **headers)
        assert response.status == 403
        assert b"only the page itself" in response.read()
    assert ask(page, "/controls").status == 404
    assert controls.settings.opacity == 0.5


def test_a_name_that_another_site_gave_this_machine_shows_nothing(page: PageSink) -> None:
    page.write(segmented(0))
    port = host(page).split(":")[1]
    for path in ("/", "/stream", "/figures", "/snapshot.png"):
        for name in ("evil.example", f"evil.example:{port}", "", "[::1"):
            response = ask(page, path, Host=name)
            assert response.status == 421, (path, name)
            assert b"this machine is not called" in response.read()
    # Addresses, forwarded ports and this machine's own name are no trick.
    for name in ("192.168.1.7:8080", "localhost:9000", "[::1]:80", socket.gethostname()):
        assert ask(page, "/figures", Host=name).status == 200


def test_other_sites_cannot_embed_the_picture(page: PageSink) -> None:
    page.write(segmented(0))
    assert ask(page, "/stream", Sec_Fetch_Site="cross-site").status == 403
    assert ask(page, "/snapshot.png", Sec_Fetch_Site="same-site").status == 403
    response = ask(page, "/", Sec_Fetch_Site="cross-site")  # a link on another page
    assert response.status == 200
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_the_page_needs_nothing_from_elsewhere(page: PageSink) -> None:
    for path in ("/", "/page.css", "/page.js"):
        text = ask(page, path).read().decode()
        assert text
        for trace in ("https://", "http://", "//cdn", "@import", "googleapis"):
            assert trace not in text.replace("http://www.w3.org/2000/svg", ""), path


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
        (b"GET /\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n", b"411"),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"GET /etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"404"),
        (b"GET /../page.py HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"404"),
        (b"DELETE / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"404"),
        (b"A" * 40000, b""),
    ],
)
def test_nonsense_is_refused_and_the_page_goes_on(
    page: PageSink, request_: bytes, status: bytes
) -> None:
    with socket.create_connection(host(page).split(":"), timeout=10) as connection:
        connection.sendall(request_)
        try:
            assert connection.recv(4096)[9:12] == status
        except ConnectionResetError:
            assert status == b""
    assert ask(page, "/figures").status == 200


def test_a_picture_that_cannot_be_encoded_does_not_fail_the_stream(
    page: PageSink, caplog: pytest.LogCaptureFixture
) -> None:
    with watching(page):
        eventually(lambda: page._viewers == 1)
        page.write(segmented(0, np.zeros((0, 64, 3), np.uint8)))
        eventually(lambda: "the stream goes on" in caplog.text)
    page.write(segmented(1))
    with watching(page) as take:
        assert take().mean() == pytest.approx(1, abs=2)


def test_a_port_that_is_taken_is_one_message(
    page: PageSink, labels: LabelMap, controls: Controls
) -> None:
    with pytest.raises(VideoError, match="in use") as caught:
        PageSink(host(page), labels, controls)
    assert "another --view" in caught.value.next_step
    with pytest.raises(VideoError, match="cannot be served at 192.0.2.1:0"):
        PageSink("192.0.2.1:0", labels, controls)


def test_closing_lets_viewers_go_and_frees_the_port(labels: LabelMap, controls: Controls) -> None:
    page = PageSink("127.0.0.1:0", labels, controls)
    threads = threading.active_count()
    with page:
        page.write(segmented(0))
        response = ask(page, "/stream")
        assert response.readline() == b"--frame\r\n"
    assert threading.active_count() == threads - 1
    response.read()  # ends
    with PageSink(host(page), labels, controls):
        pass
    page.close()  # a second time is no harm
    page.write(segmented(1))
