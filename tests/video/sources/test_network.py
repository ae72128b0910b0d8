"""Videos and streams by URL: what is live, what is whole, what is refused and how it is said."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from pattern_videos import write_pattern_video

from segkit.errors import VideoError
from segkit.video.sources import FileSource, NetworkSource, NetworkVideo, Patience, open_source
from segkit.video.time_pattern import draw_pattern, read_pattern

QUICK = Patience(open=2, stall=1, outage=10)
Answer = Callable[[BaseHTTPRequestHandler], None]

TS_SENDER = """
import sys, time
import cv2, av
from fractions import Fraction
from segkit.video.sources import PatternSource
port, seconds, options = sys.argv[1], float(sys.argv[2]), eval(sys.argv[3])
with av.open(f"tcp://127.0.0.1:{port}?listen=1", "w", format="mpegts") as container:
    stream = container.add_stream("libx264", rate=30, options=options)
    stream.height, stream.width, stream.pix_fmt = 96, 160, "yuv420p"
    begin = time.monotonic()
    for frame in PatternSource((96, 160), live=False, num_frames=int(30 * seconds)):
        time.sleep(max(0, begin + frame.index / 30 - time.monotonic()))
        picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
        picture.pts, picture.time_base = frame.index, Fraction(1, 30)
        container.mux(stream.encode(picture))
"""


@contextmanager
def http_server(**answers: Answer) -> Iterator[str]:
    """Answers /NAME by the function of that name."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with suppress(OSError):
                answers[re.split(r"[/.?]", self.path)[1]](self)
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://viewer:geheim@127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def status(code: int) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def page(handler: BaseHTTPRequestHandler) -> None:
    body = b"<html>the camera's page</html>" * 100
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def motion_jpeg(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    handler.end_headers()
    image = np.full((96, 160, 3), 90, np.uint8)
    for index in range(300):
        draw_pattern(image, index, 0)
        body = cv2.imencode(".jpg", image)[1].tobytes()
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
        handler.wfile.write(head.encode() + body + b"\r\n")
        time.sleep(0.02)


def file_answer(path: Path, break_at: int | None = None) -> Answer:
    """Serves ranges of a file; the first long answer breaks off after so many bytes."""
    data = path.read_bytes()
    left = [break_at]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        found = re.match(r"bytes=(\d+)-", handler.headers.get("Range") or "bytes=0-")
        assert found is not None
        start = int(found[1])
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.send_header("Accept-Ranges", "bytes")
        handler.end_headers()
        stop = left.pop() if left and start == 0 else None
        handler.wfile.write(data[start:stop])

    return answer


def test_a_file_behind_a_url_is_a_video_and_sought_in(tmp_path: Path) -> None:
    path = write_pattern_video(tmp_path / "clip.mp4", 120)
    with FileSource(path) as source:
        expected = [(frame.index, frame.time) for frame in source]
    with http_server(clip=file_answer(path)) as url:
        with open_source(f"{url}/clip.mp4", patience=QUICK) as source:
            assert isinstance(source, NetworkVideo)
            assert not source.info.live
            assert "geheim" not in source.name
            assert [(frame.index, frame.time) for frame in source] == expected
        with open_source(f"{url}/clip.mp4", start=3.5, patience=QUICK) as source:
            assert [(frame.index, frame.time) for frame in source] == expected[105:]


def test_a_connection_that_breaks_in_the_middle_of_a_video_loses_nothing(tmp_path: Path) -> None:
    path = write_pattern_video(tmp_path / "clip.mkv", 120, options={"crf": "5"})
    with (
        http_server(clip=file_answer(path, break_at=path.stat().st_size // 2)) as url,
        NetworkVideo(f"{url}/clip.mkv", patience=QUICK) as source,
    ):
        numbers = [read_pattern(frame.image).frame_id for frame in source]  # type: ignore[union-attr]
    assert numbers == list(range(120))


def test_motion_jpeg_is_live_unless_told(tmp_path: Path) -> None:
    with http_server(camera=motion_jpeg) as url:
        with open_source(f"{url}/camera", patience=QUICK) as source:
            assert isinstance(source, NetworkSource)
            assert source.info.live
            frames = [frame for frame, _ in zip(source, range(20), strict=False)]
        with open_source(f"{url}/camera", live=False, patience=QUICK) as source:
            assert not source.info.live
            numbers = [read_pattern(f.image).frame_id for f, _ in zip(source, range(20))]  # type: ignore[union-attr]  # noqa: B905
    assert all(after.index > before.index for before, after in pairwise(frames))
    assert numbers == list(range(20)), "what is not live is read whole"


@pytest.mark.parametrize(
    "options",
    [{"tune": "zerolatency", "g": "15"}, {"bf": "3", "g": "15", "preset": "veryfast"}],
    ids=["zero latency", "reordered"],
)
def test_mpeg_ts_over_tcp(options: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    sender = subprocess.Popen([sys.executable, "-c", TS_SENDER, str(port), "6", str(options)])
    try:
        source = _when_it_listens(f"tcp://127.0.0.1:{port}")
        with source:
            assert source.info.live
            rows = []
            for frame in source:
                pattern = read_pattern(frame.image)
                assert pattern is not None
                rows.append((frame.index, pattern.frame_id, frame.time))
                if frame.index > 60:
                    break
    finally:
        sender.kill()
        sender.wait()
    for before, after in pairwise(rows):
        assert after[0] - before[0] == after[1] - before[1] > 0
        assert float(after[2] - before[2]) == pytest.approx((after[0] - before[0]) / 30, abs=0.005)
    assert len(rows) > 20


def _when_it_listens(url: str) -> NetworkSource:
    until = time.monotonic() + 20
    while True:
        try:
            return NetworkSource(url, patience=Patience(open=10, stall=3, outage=5))
        except VideoError as err:
            assert "nothing listens" in str(err)
            assert time.monotonic() < until
            time.sleep(0.1)


def test_frames_that_end_are_waited_for_and_then_missed() -> None:
    def some(handler: BaseHTTPRequestHandler) -> None:
        if opened:
            status(404)(handler)
            return
        opened.append(1)
        handler.wfile = _Cut(handler.wfile, 20_000)  # type: ignore[assignment]
        motion_jpeg(handler)

    opened: list[int] = []
    patience = Patience(open=2, stall=1, outage=1)
    with (
        http_server(camera=some) as url,
        NetworkSource(f"{url}/camera", patience=patience) as source,
        pytest.raises(VideoError, match=r"has been away for 1 s: .*404") as caught,
    ):
        list(source)
    assert "geheim" not in str(caught.value)


class _Cut:
    """A connection that breaks after so many bytes."""

    def __init__(self, file: object, left: int) -> None:
        self.file, self.left = file, left

    def write(self, data: bytes) -> int:
        self.left -= len(data)
        if self.left < 0:
            raise OSError("cut")
        return self.file.write(data)  # type: ignore[attr-defined,no-any-return]

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("locked", "refuses the login .*401"),
        ("forbidden", "refuses the login .*403"),
        ("absent", r"127.0.0.1:\d+ has no 'http.*404"),
        ("broken", r"cannot be opened .*5XX"),
        ("page", "answers, but not with a video"),
    ],
)
@pytest.mark.parametrize("live", [None, True, False])
def test_what_an_http_server_refuses_is_said(path: str, words: str, live: bool | None) -> None:
    with (
        http_server(
            locked=status(401),
            forbidden=status(403),
            absent=status(404),
            broken=status(503),
            page=page,
        ) as url,
        pytest.raises(VideoError, match=words) as caught,
    ):
        open_source(f"{url}/{path}", live=live, patience=QUICK)
    assert "geheim" not in str(caught.value)
    assert "viewer:***@" in str(caught.value)


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp", "rtmp"])
def test_where_nothing_listens_it_is_said(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(VideoError, match=f"nothing listens at 127.0.0.1:{port}"):
        open_source(f"{scheme}://127.0.0.1:{port}/a/b", patience=QUICK)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_host_that_nobody_knows_is_said(scheme: str) -> None:
    with pytest.raises(VideoError, match="no host of the name in '.*no.such.host.invalid"):
        open_source(f"{scheme}://no.such.host.invalid/a", patience=QUICK)


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp", "rtmp", "udp"])
def test_a_server_that_says_nothing_is_not_waited_for_long(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/a/b"
        began = time.monotonic()
        with pytest.raises(VideoError, match="within 0.5 s"):
            open_source(url, patience=Patience(open=0.5, stall=0.5))
        assert time.monotonic() - began < 2


def test_garbage_is_no_video() -> None:
    def noise(server: socket.socket) -> None:
        client, _ = server.accept()
        with client, suppress(OSError):
            client.sendall(np.random.default_rng(0).bytes(3_000_000))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=noise, args=(server,))
        thread.start()
        with pytest.raises(VideoError, match="answers, but not with a video|sent no frame|has no"):
            open_source(f"tcp://127.0.0.1:{server.getsockname()[1]}", patience=QUICK)
        thread.join()


def test_sound_alone_is_no_live_video(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with (
        http_server(sound=file_answer(path)) as url,
        pytest.raises(VideoError, match="no video stream, only audio"),
    ):
        open_source(f"{url}/sound.wav", patience=QUICK)


def test_own_options_go_before_ours() -> None:
    with http_server(camera=motion_jpeg) as url:
        source = NetworkSource(f"{url}/camera", patience=QUICK, options={"fpsprobesize": "5"})
        with source:
            assert source._options["fpsprobesize"] == "5"
            assert source._options["analyzeduration"] == "2000000"
            assert source.info.rate > 0
            assert next(iter(source)).time == Fraction(0)
