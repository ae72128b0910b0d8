"""Selection: some of a source's frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path

from segkit.errors import ConfigError, VideoError
from segkit.video.frame import Frame, VideoInfo
from segkit.video.sources.base import OpenSource

__all__ = ["Selection"]


class Selection(OpenSource):
    """Every n-th frame of a part of a source, and no more of them a second than wanted.

    Frames keep the index and the time that they have in the source.

    Args:
        source: The source; closed with this one.
        start: Frames before are left out; seconds from the source's first frame.
        end: Frames from there on are left out; None: there is no end but the source's.
        stride: Of the frames from `start` on the first is taken, and then one of so many.
        max_fps: Frames a second at most, by their times: of those that the stride leaves the ones
            that come nearest to that rhythm. None: all.

    Raises:
        ConfigError: A value is out of its range.
    """

    def __init__(
        self,
        source: OpenSource,
        *,
        start: Fraction = Fraction(0),
        end: Fraction | None = None,
        stride: int = 1,
        max_fps: Fraction | None = None,
    ) -> None:
        if start < 0:
            raise ConfigError(f"--start is {float(start):g}", expected="0 or more seconds")
        if end is not None and end <= start:
            raise ConfigError(
                f"--end is {float(end):g} and --start {float(start):g}",
                expected="an end after the start, in seconds",
            )
        if stride < 1:
            raise ConfigError(f"--stride is {stride}", expected="1 or more")
        if max_fps is not None and max_fps <= 0:
            raise ConfigError(f"--max_fps is {float(max_fps):g}", expected="a number above 0")
        self._source = source
        self._start, self._end, self._stride, self._max_fps = start, end, stride, max_fps

    @property
    def name(self) -> str:
        """The source's."""
        return self._source.name

    @property
    def path(self) -> Path | None:
        """The source's."""
        return self._source.path

    @property
    def restarts(self) -> int:
        """The source's."""
        return self._source.restarts

    @property
    def info(self) -> VideoInfo:
        """As of the source, with the rate and the number of what is selected."""
        info = self._source.info
        rate = info.rate / self._stride
        if self._max_fps is not None:
            rate = min(rate, self._max_fps)
        if not info.num_frames:
            return replace(info, rate=rate)
        whole = info.num_frames / info.rate
        seconds = max(Fraction(0), min(whole, self._end or whole) - self._start)
        return replace(info, rate=rate, num_frames=ceil(seconds * rate))

    def __iter__(self) -> Iterator[Frame]:
        """The frames, once.

        Raises:
            VideoError: The source cannot be read on, or ends before the start.
        """
        position = 0
        due: Fraction | None = None
        # A frame may be early by half of what lies between two, to be the nearest.
        early = self._stride / self._source.info.rate / 2
        for frame in self._source:
            if frame.time < self._start:
                continue
            if self._end is not None and frame.time >= self._end:
                break
            position += 1
            if (position - 1) % self._stride:
                continue
            if self._max_fps is not None:
                period = 1 / self._max_fps
                if due is not None and frame.time + early < due:
                    continue
                late = due is None or frame.time > due + period
                due = period + (frame.time if due is None or late else due)
            yield frame
        if not position:
            raise VideoError(
                f"'{self.name}' has no frame from {float(self._start):g} s on",
                expected="a --start before its end",
            )

    def close(self) -> None:
        """Closes the source."""
        self._source.close()
