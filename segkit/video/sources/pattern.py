"""PatternSource: a camera that needs none, with moving shapes and the time pattern."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from time import perf_counter

import cv2
import numpy as np

from segkit.video.frame import Frame, Image, VideoInfo
from segkit.video.sources.base import OpenSource
from segkit.video.time_pattern import clock_ms, draw_pattern

__all__ = ["PatternSource"]

SHAPES = (  # colour; size, as share of the height; turns a second in both directions
    ((228, 26, 28), 0.10, 0.11, 0.17),
    ((55, 126, 184), 0.14, 0.07, 0.05),
    ((77, 175, 74), 0.08, 0.19, 0.13),
    ((255, 200, 40), 0.12, 0.05, 0.09),
)


class PatternSource(OpenSource):
    """Generated frames, whose number and time can be read out of the picture.

    The pattern (segkit.video.time_pattern) has the frame's index and the time at which it is due.
    Live, frames come at their exact rate, and those that nobody takes in time are gone, as of any
    camera; otherwise as fast as they are asked for, and none is lost.

    Args:
        size: Height and width.
        rate: Frames a second.
        live: Whether they come in real time.
        num_frames: How many; None: without end.
    """

    def __init__(
        self,
        size: tuple[int, int] = (480, 640),
        *,
        rate: Fraction = Fraction(30),
        live: bool = True,
        num_frames: int | None = None,
    ) -> None:
        self._info = VideoInfo(
            height=size[0],
            width=size[1],
            rate=rate,
            time_base=1 / rate,
            num_frames=num_frames or 0,
            live=live,
        )
        self._num_frames = num_frames
        self._background = _background(size)
        self._closed = threading.Event()

    @property
    def name(self) -> str:
        """What it shows."""
        return "test pattern"

    @property
    def info(self) -> VideoInfo:
        """As it was asked for."""
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        """The frames, once."""
        begin, index = perf_counter(), 0
        while self._num_frames is None or index < self._num_frames:
            due = begin + float(index / self._info.rate)
            if self._closed.wait(max(0.0, due - perf_counter()) if self._info.live else 0):
                return
            captured = due if self._info.live else perf_counter()
            yield Frame(self._draw(index, captured), index, index / self._info.rate, captured)
            index += 1
            if self._info.live:
                index = max(index, int((perf_counter() - begin) * self._info.rate))

    def close(self) -> None:
        """Ends it, from any thread."""
        self._closed.set()

    def _draw(self, index: int, captured: float) -> Image:
        image = self._background.copy()
        height, width = image.shape[:2]
        time_s = float(index / self._info.rate)
        for color, size, across, down in SHAPES:
            radius = max(2, round(size * height))
            center = (
                round(width / 2 * (1 + 0.9 * np.sin(2 * np.pi * across * time_s))),
                round(height / 2 * (1 + 0.9 * np.cos(2 * np.pi * down * time_s))),
            )
            cv2.circle(image, center, radius, color, cv2.FILLED)
        draw_pattern(image, index, clock_ms(captured))
        return image


def _background(size: tuple[int, int]) -> Image:
    """Soft noise: as much for a codec to do as a street has."""
    height, width = size
    small = np.random.default_rng(0).integers(70, 130, (height // 8 + 1, width // 8 + 1, 3))
    return np.asarray(cv2.resize(small.astype(np.uint8), (width, height)))
