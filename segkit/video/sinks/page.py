"""PageSink: the pictures on a page in a browser, with live figures and the controls."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from importlib import resources

import cv2

from segkit.errors import ConfigError
from segkit.labels import LabelMap
from segkit.video.frame import Image, SegmentedFrame
from segkit.video.sinks.controls import Controls
from segkit.video.sinks.page_server import PageServer, Request, Response, Stream, parse_address
from segkit.video.sinks.shares import class_shares

__all__ = ["PageSink"]

MAX_VIEWERS = 8
JPEG_QUALITY = 85
RECENT_FRAMES = 60  # that rate and timings are taken from
RATE_SECONDS = 2.0
WAITING_SECONDS = 2.0  # without a frame, the page says that it waits
BOUNDARY = "frame"
WEB = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}


@dataclass(frozen=True)
class _Shown:
    """A frame that was written, the how manieth, and when in seconds of time.perf_counter()."""

    number: int
    segmented: SegmentedFrame
    written: float

    @property
    def age_ms(self) -> float:
        """From its capture until it was written."""
        return 1e3 * (self.written - self.segmented.frame.captured)


class PageSink:
    """Serves the newest picture to whoever looks. Never slows or fails the stream.

    A write only notes the frame. Pictures become JPEGs in the page's own thread, once for all
    viewers, and only while there are any; each viewer gets the newest picture whenever the one
    before has left, so that a slow one sees fewer, and all see them as they are. A picture must
    not be changed after it was written.

    Args:
        address: host:port. Nobody but this machine reaches 127.0.0.1.
        labels: The classes, for the legend.
        controls: What the page shows and moves.
        title: What is seen, such as the source's name.
        dropped: Asked for the counts of dropped frames by cause, if given.

    Raises:
        ConfigError: The address is none.
        VideoError: It cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        labels: LabelMap,
        controls: Controls,
        *,
        title: str = "segkit",
        dropped: Callable[[], Mapping[str, int]] | None = None,
    ) -> None:
        host, port = parse_address(address)
        self._labels = labels
        self._controls = controls
        self._title = title
        self._dropped = dropped
        self._latest: _Shown | None = None
        self._encoded: tuple[int, bytes] = (0, b"")
        # When the last frames were written, and what they took; not the frames, which are large.
        self._recent: deque[tuple[float, Mapping[str, float]]] = deque(maxlen=RECENT_FRAMES)
        self._lock = threading.Lock()  # for these
        self._viewers = 0
        self._fresh = asyncio.Event()
        folder = resources.files("segkit.video.sinks") / "web"
        self._web = {
            path: Response((folder / name).read_bytes(), kind) for path, (name, kind) in WEB.items()
        }
        self._server = PageServer(host, port, self._answer)
        self._host = host

    @property
    def url(self) -> str:
        """Where the page is, as this machine's browser opens it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._server.port}/"

    def write(self, segmented: SegmentedFrame) -> None:
        """Shows the picture from now on."""
        number = self._latest.number + 1 if self._latest else 1
        self._latest = _Shown(number, segmented, time.perf_counter())
        with self._lock:
            self._recent.append((self._latest.written, segmented.stage_ms))
        if self._viewers:
            self._server.loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """Lets all viewers go and frees the port."""
        self._server.stop()

    def __enter__(self) -> PageSink:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _wake(self) -> None:
        self._fresh.set()
        self._fresh = asyncio.Event()

    def _answer(self, request: Request) -> Response | Stream:
        match request.method, request.path:
            case "GET", path if path in self._web:
                return self._web[path]
            case "GET", "/figures":
                return _json(self._figures())
            case "GET", "/stream":
                if self._viewers >= MAX_VIEWERS:
                    busy = f"{MAX_VIEWERS} viewers are the most\n".encode()
                    return Response(busy, status=HTTPStatus.SERVICE_UNAVAILABLE)
                return Stream(self._frames(), f"multipart/x-mixed-replace; boundary={BOUNDARY}")
            case "GET", "/snapshot.png":
                return self._snapshot()
            case "POST", "/controls":
                return self._change(request.body)
        return Response(b"there is no such page\n", status=HTTPStatus.NOT_FOUND)

    async def _frames(self) -> AsyncIterator[bytes]:
        """The newest JPEG whenever there is a newer one than the last."""
        self._viewers += 1
        try:
            # Each boundary goes out with the frame before it: browsers show a frame only when they
            # have seen its end.
            yield f"--{BOUNDARY}\r\n".encode()
            sent = 0
            while True:
                fresh = self._fresh  # before the look at the frame, which may change at any time
                latest = self._latest
                if latest is None or latest.number == sent:
                    await fresh.wait()
                    continue
                sent = latest.number
                jpeg = self._jpeg(latest)
                yield (
                    f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                    + jpeg
                    + f"\r\n--{BOUNDARY}\r\n".encode()
                )
        finally:
            self._viewers -= 1

    def _jpeg(self, shown: _Shown) -> bytes:
        if self._encoded[0] != shown.number:
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            self._encoded = shown.number, _encode(".jpg", shown.segmented.picture, quality)
        return self._encoded[1]

    def _snapshot(self) -> Response:
        latest = self._latest
        if latest is None:
            return Response(b"there is no picture yet\n", status=HTTPStatus.NOT_FOUND)
        name = f"segkit-{latest.segmented.frame.index:06d}.png"
        return Response(
            _encode(".png", latest.segmented.picture, []),
            "image/png",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    def _change(self, body: bytes) -> Response:
        try:
            changes = json.loads(body)
            if not isinstance(changes, dict):
                raise ConfigError("the controls are no JSON object", expected='{"opacity": 0.5}')
            return _json(asdict(self._controls.change(**changes)))
        except (ConfigError, ValueError) as err:  # ValueError: no JSON
            return _json({"error": str(err)}, HTTPStatus.BAD_REQUEST)

    def _figures(self) -> dict[str, object]:
        """What the page shows beside the picture; whatever is not known yet is null or empty."""
        latest = self._latest
        settings = self._controls.settings
        fps, stage_ms = self._rate_and_timings()
        waiting = latest is None or time.perf_counter() - latest.written > WAITING_SECONDS
        shares = class_shares(latest.segmented.mask, self._labels) if latest else {}
        return {
            "title": self._title,
            "state": "paused" if settings.paused else "waiting" if waiting else "live",
            "frame": latest.segmented.frame.index if latest else None,
            "time_s": latest.segmented.frame.time_s if latest else None,
            "size": latest.segmented.picture.shape[:2] if latest else None,
            "fps": fps,
            "age_ms": latest.age_ms if latest else None,
            "stage_ms": stage_ms,
            "dropped": dict(self._dropped()) if self._dropped else None,
            "classes": [
                {
                    "name": label.name,
                    "color": "#{:02x}{:02x}{:02x}".format(*label.color),
                    "share": shares.get(label.name, 0.0),
                }
                for label in self._labels.labels
            ],
            "controls": asdict(settings),
            "effects": self._controls.effects,
            "can_record": self._controls.can_record,
            "viewers": self._viewers,
        }

    def _rate_and_timings(self) -> tuple[float, dict[str, float]]:
        """Frames a second of the last two seconds, and stage -> mean milliseconds."""
        with self._lock:
            recent = list(self._recent)
        since = time.perf_counter() - RATE_SECONDS
        times = [written for written, _ in recent if written > since]
        fps = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
        stages: dict[str, list[float]] = {}
        for _, stage_ms in recent:
            for stage, ms in stage_ms.items():
                stages.setdefault(stage, []).append(ms)
        return fps, {stage: sum(values) / len(values) for stage, values in stages.items()}


def _encode(form: str, picture: Image, options: list[int]) -> bytes:
    _, encoded = cv2.imencode(form, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return bytes(encoded)


def _json(record: Mapping[str, object], status: HTTPStatus = HTTPStatus.OK) -> Response:
    body = json.dumps(record, ensure_ascii=False).encode()
    return Response(body, "application/json", status)
