"""open_source: whatever a user may name, opened as what it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from segkit.errors import ConfigError, VideoError
from segkit.video.sources.base import OpenSource
from segkit.video.sources.file import FileSource
from segkit.video.sources.images import DEFAULT_RATE, IMAGE_SUFFIXES, ImagesSource, is_pattern
from segkit.video.sources.live import Patience
from segkit.video.sources.network import NO_OPTIONS, open_network
from segkit.video.sources.pattern import PatternSource
from segkit.video.sources.selection import Selection
from segkit.video.sources.urls import SCHEMES, hide_credentials, scheme_of
from segkit.video.sources.webcam import WebcamSource

__all__ = ["SOURCES", "open_source"]

SOURCES = (
    "0 (a camera's number), a video file, a folder or pattern of images, "
    "rtsp://, http:// or another URL, or test (test:640x480@30)"
)
TEST = "test"
TEST_SECONDS = 10  # of a test pattern that is no live source, where no end is given
LARGEST_SIDE, HIGHEST_RATE = 8192, 1000

_TEST = re.compile(r"test(?::(\d+)x(\d+)(?:@(\d+(?:\.\d+)?|\d+/\d+))?)?")


def open_source(
    text: str,
    *,
    start: float | Fraction = 0,
    end: float | Fraction | None = None,
    stride: int = 1,
    max_fps: float | Fraction | None = None,
    live: bool | None = None,
    rate: float | Fraction | None = None,
    size: tuple[int, int] | None = None,
    patience: Patience = Patience(),  # noqa: B008 - frozen
    options: Mapping[str, str] = NO_OPTIONS,
) -> OpenSource:
    """Opens a source by what is given.

    Args:
        text: See SOURCES.
        start: Frames before are left out, seconds from the first one; sought, not read, in videos.
        end: Frames from there on are left out; None: none is.
        stride: One of so many frames.
        max_fps: Frames a second at most.
        live: Of URLs and test patterns: whether they run by themselves, so that only the newest
            frame matters; None: what is known of the URL decides, and a test pattern does.
        rate: Of images: how many are a second. Of a camera: frames a second to ask for.
        size: Of a camera: height and width to ask for.
        patience: Of live sources: how long to wait for what.
        options: Of URLs: options of FFmpeg.

    Raises:
        ConfigError: A value is out of its range.
        VideoError: It cannot be opened.
    """
    begin = _exact("--start", start)
    assert begin is not None
    wanted, last = _exact("--rate", rate), _exact("--end", end)
    if wanted is not None and wanted <= 0:
        raise ConfigError(f"--rate is {rate}", expected="a number above 0")
    source = _open(text, begin, last, live, wanted, size, patience, options)
    fastest = _exact("--max_fps", max_fps)
    if not begin and last is None and stride == 1 and fastest is None:
        return source
    try:
        return Selection(source, start=begin, end=last, stride=stride, max_fps=fastest)
    except BaseException:
        source.close()
        raise


def _open(
    text: str,
    start: Fraction,
    end: Fraction | None,
    live: bool | None,
    rate: Fraction | None,
    size: tuple[int, int] | None,
    patience: Patience,
    options: Mapping[str, str],
) -> OpenSource:
    scheme = scheme_of(text)
    path = Path(text).expanduser()
    if scheme in SCHEMES:
        return open_network(text, live=live, start=start, patience=patience, options=options)
    if scheme is not None:
        raise VideoError(
            f"'{hide_credentials(text)}' begins with {scheme}://, which cannot be read",
            expected=f"a URL of {', '.join(SCHEMES)}",
        )
    if text.isdecimal():
        return WebcamSource(int(text), size=size, rate=rate, patience=patience)
    if text == TEST or text.startswith(f"{TEST}:"):
        return _open_pattern(text, live is not False, end)
    if path.is_dir() or is_pattern(str(path)) or path.suffix.lower() in IMAGE_SUFFIXES:
        return ImagesSource(str(path), rate=rate or DEFAULT_RATE)
    if not path.exists():
        raise VideoError(f"the source '{text}' does not exist", expected=SOURCES)
    return FileSource(path, start=start)


def _open_pattern(text: str, live: bool, end: Fraction | None) -> PatternSource:
    found = _TEST.fullmatch(text)
    if found is None:
        raise VideoError(f"'{text}' is no test pattern", expected="test:WIDTHxHEIGHT@FPS")
    width, height = int(found[1] or 640), int(found[2] or 480)
    try:
        rate = Fraction(found[3] or 30)
    except ZeroDivisionError:
        rate = Fraction(0)
    if not (min(width, height) >= 16 and max(width, height) <= LARGEST_SIDE) or not (
        0 < rate <= HIGHEST_RATE
    ):
        raise VideoError(
            f"'{text}' is no test pattern that can be drawn",
            expected=f"sides of 16 to {LARGEST_SIDE} pixels, at most {HIGHEST_RATE} fps",
        )
    endless = live or end is not None
    return PatternSource(
        (height, width),
        rate=rate,
        live=live,
        num_frames=None if endless else round(TEST_SECONDS * rate),
    )


def _exact(flag: str, value: float | Fraction | None) -> Fraction | None:
    """The number that was written: 0.1 and 29.97 are not what their binary form is."""
    if value is None or isinstance(value, Fraction):
        return value
    try:
        return Fraction(str(value))
    except ValueError:  # inf, nan
        raise ConfigError(f"{flag} is {value}", expected="a number of finite size") from None
