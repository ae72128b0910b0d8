"""Streams and videos by URL, by PyAV: NetworkSource where they are live, else NetworkVideo."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import partial
from time import perf_counter
from types import MappingProxyType
from urllib.parse import urlsplit

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from segkit.errors import VideoError
from segkit.video.frame import VideoInfo
from segkit.video.sources.base import OpenSource
from segkit.video.sources.decoding import open_video, to_image
from segkit.video.sources.live import LiveSource, Patience
from segkit.video.sources.reader import Capture
from segkit.video.sources.recorded import RecordedSource
from segkit.video.sources.urls import LIVE_SCHEMES, hide_credentials, scheme_of

__all__ = ["NetworkSource", "NetworkVideo", "open_network"]

NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
FALLBACK_RATE = Fraction(25)
HIGHEST_RATE = 240  # more than that is a clock that was taken for a rate
UNIT = Fraction(1, 90_000)  # of times where a stream names none: that of RTP and MPEG-TS
# The rate is measured over two frames; FFmpeg would take a second. What else is often advised costs
# more than it gives: "nobuffer" throws away what was read to find the codec, and with it the first
# keyframe, so that there is no picture until the next; "low_delay" gains nothing where threads go
# by slice. What was buffered is decoded at once and replaced by what is newer.
LIVE_OPTIONS = {"fpsprobesize": "2", "analyzeduration": "2000000"}
SCHEME_OPTIONS = {
    "rtsp": {"rtsp_transport": "tcp"},  # what UDP loses is seen until the next keyframe
    "rtsps": {"rtsp_transport": "tcp"},
    "udp": {"overrun_nonfatal": "1"},
}
# A connection that breaks in the middle of a video is made again where it broke.
RECORDED_OPTIONS = {"reconnect": "1", "reconnect_on_network_error": "1", "reconnect_delay_max": "8"}


def open_network(
    url: str,
    *,
    live: bool | None = None,
    start: Fraction = Fraction(0),
    patience: Patience = Patience(),  # noqa: B008 - frozen
    options: Mapping[str, str] = NO_OPTIONS,
) -> OpenSource:
    """Opens a URL as what it is.

    Args:
        url: A URL of one of segkit.video.sources.urls.SCHEMES.
        live: Whether it runs by itself; None: http and https are live where they have no duration,
            all others are.
        start: Of a video that is not live: where to begin; see RecordedSource.
        patience: How long to wait for what.
        options: Of FFmpeg, beside or instead of those that segkit sets.

    Raises:
        VideoError: It cannot be opened.
    """
    if live is None:
        live = scheme_of(url) in LIVE_SCHEMES or not _has_duration(url, patience, options)
    if live:
        return NetworkSource(url, patience=patience, options=options)
    return NetworkVideo(url, start=start, patience=patience, options=options)


class NetworkSource(LiveSource):
    """The newest frame of a live stream, which is restarted where it stalls, ends or breaks.

    Args:
        url: RTSP (over TCP), HTTP, RTMP, MPEG-TS over TCP or UDP, ...
        patience: How long to wait for what.
        options: Of FFmpeg, beside or instead of those that segkit sets.

    Raises:
        VideoError: It cannot be opened, has no video, or sends no frame.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: Patience = Patience(),  # noqa: B008 - frozen
        options: Mapping[str, str] = NO_OPTIONS,
    ) -> None:
        self._url = url
        self._options = {**LIVE_OPTIONS, **SCHEME_OPTIONS.get(scheme_of(url) or "", {}), **options}
        super().__init__(patience)

    @property
    def name(self) -> str:
        """The URL without its password."""
        return hide_credentials(self._url)

    def _connect(self) -> _Stream:
        return _Stream(self._url, self._patience, self._options)


class NetworkVideo(RecordedSource):
    """Every frame of a video file behind a URL.

    Args:
        url: HTTP or whatever else serves a file.
        start: Seconds from the first frame; see RecordedSource.
        patience: How long to wait for what.
        options: Of FFmpeg, beside or instead of those that segkit sets.

    Raises:
        VideoError: It cannot be opened, has no video, or no frame.
    """

    def __init__(
        self,
        url: str,
        *,
        start: Fraction = Fraction(0),
        patience: Patience = Patience(),  # noqa: B008 - frozen
        options: Mapping[str, str] = NO_OPTIONS,
    ) -> None:
        self._url, self._patience = url, patience
        self._options = {
            **SCHEME_OPTIONS.get(scheme_of(url) or "", {}),
            **(RECORDED_OPTIONS if scheme_of(url) in ("http", "https") else {}),
            **options,
        }
        super().__init__(start=start)

    @property
    def name(self) -> str:
        """The URL without its password."""
        return hide_credentials(self._url)

    def _open(self) -> tuple[InputContainer, VideoStream]:
        return _open(self._url, self._patience.open, self._patience.outage, self._options)

    def _broken(self, err: av.FFmpegError) -> VideoError:
        return VideoError(
            f"the video '{self.name}' cannot be read to its end ({err.strerror})",
            expected="a server that sends all of it",
            next_step="run again, or download the file first",
        )


class _Stream:
    """A connection to a live stream."""

    def __init__(self, url: str, patience: Patience, options: Mapping[str, str]) -> None:
        self._patience = patience
        # The watchdog acts first; this lets the thread go that it left behind.
        read_s = patience.stall + 1
        self._container, self._stream = _open(url, patience.open, read_s, options)
        self._first: VideoFrame | None = None

    @property
    def info(self) -> VideoInfo:
        assert self._first is not None
        height, width = self._first.height, self._first.width
        if round(self._first.rotation / 90) % 2:
            height, width = width, height
        rate = self._stream.average_rate or self._stream.guessed_rate or FALLBACK_RATE
        return VideoInfo(
            height=height,
            width=width,
            rate=Fraction(rate) if rate <= HIGHEST_RATE else FALLBACK_RATE,
            time_base=Fraction(self._stream.time_base or UNIT),
        )

    def captures(self) -> Iterator[Capture]:
        """The frames; what cannot be decoded is skipped, up to the next keyframe."""
        asked = perf_counter()
        seen = perf_counter()
        try:
            for packet in self._container.demux(self._stream):
                arrived = perf_counter()
                try:
                    frames = packet.decode()
                except av.InvalidDataError:
                    frames = []
                for frame in frames:
                    self._first = self._first or frame
                    time = None if frame.pts is None else frame.pts * (frame.time_base or UNIT)
                    image = partial(to_image, frame, self._first)
                    yield Capture(image=image, captured=arrived, time=time)
                    seen = arrived
                # Packets without a picture in them are no life sign.
                if arrived - seen > (self._patience.stall if self._first else self._patience.open):
                    raise VideoError(f"no frame for {arrived - seen:.3g} s, only what is none")
                asked = perf_counter()
        except av.FFmpegError as err:
            waited = perf_counter() - asked
            why = f"no data for {waited:.3g} s" if waited > 1 else f"it broke ({err.strerror})"
            raise VideoError(why) from None  # FFmpeg's own text may hold a password

    def close(self) -> None:
        """Empties the decoder and closes the connection."""
        try:
            self._stream.codec_context.flush_buffers()
        finally:
            self._container.close()


def _open(
    url: str, open_s: float, read_s: float, options: Mapping[str, str]
) -> tuple[InputContainer, VideoStream]:
    """Opens the URL; says in a sentence why it cannot be."""
    began = perf_counter()
    try:
        return open_video(url, hide_credentials(url), options=options, timeout_s=(open_s, read_s))
    except (av.FFmpegError, OSError, ValueError) as err:
        # Not "from err": FFmpeg's own text holds the URL, and --debug would show it.
        raise _refusal(url, err, perf_counter() - began, open_s) from None


def _refusal(url: str, err: Exception, took_s: float, open_s: float) -> VideoError:
    name = hide_credentials(url)
    host = urlsplit(hide_credentials(url)).netloc.rpartition("@")[2]
    if took_s >= open_s:
        return VideoError(
            f"'{name}' does not answer within {open_s:g} s",
            expected="a server that is switched on and speaks that protocol at that port",
            next_step="check address and port",
        )
    if isinstance(err, (av.HTTPUnauthorizedError, av.HTTPForbiddenError)):
        return VideoError(
            f"'{name}' refuses the login ({err.strerror})",
            expected="user and password in the URL, as rtsp://user:password@host/...; "
            "an @, : or / in them as %40, %3A or %2F",
        )
    if isinstance(err, av.HTTPNotFoundError):
        return VideoError(
            f"{host} has no '{name}' (404 Not Found)",
            expected="the path of a stream or video that it has",
            next_step="look up the path in the camera's manual",
        )
    if isinstance(err, ConnectionRefusedError):
        return VideoError(
            f"nothing listens at {host} ('{name}')",
            expected="a camera or server that is switched on",
            next_step="check address and port",
        )
    if isinstance(err, av.InvalidDataError):
        return VideoError(
            f"'{name}' answers, but not with a video",
            expected="the URL of a stream or a video, not of a page that shows it",
        )
    if not _is_known(url):
        return VideoError(
            f"no host of the name in '{name}' is known",
            expected="a host name that can be looked up, or an IP address",
        )
    why = getattr(err, "strerror", None) or type(err).__name__
    return VideoError(f"'{name}' cannot be opened ({why})", expected="a video or a live stream")


def _is_known(url: str) -> bool:
    try:
        socket.getaddrinfo(urlsplit(url).hostname, None)
    except (OSError, ValueError):  # UnicodeError of names that are none is a ValueError
        return False
    return True


def _has_duration(url: str, patience: Patience, options: Mapping[str, str]) -> bool:
    container, stream = _open(url, patience.open, patience.stall, options)
    with container:
        return bool(container.duration or stream.duration)
