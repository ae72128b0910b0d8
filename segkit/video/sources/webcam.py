"""WebcamSource: a camera at this machine, by OpenCV."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from time import perf_counter
from typing import Any

import cv2
import numpy as np

from segkit.errors import VideoError
from segkit.video.frame import Image, VideoInfo
from segkit.video.sources.live import LiveSource, Patience
from segkit.video.sources.reader import Capture

__all__ = ["WebcamSource"]

logger = logging.getLogger(__name__)

FALLBACK_RATE = Fraction(30)  # of cameras that name none
UNIT = Fraction(1, 90_000)
SILENT = 0  # of OpenCV's log


class WebcamSource(LiveSource):
    """The newest frame of a camera, which is opened again where it is unplugged and comes back.

    Cameras do what they can: `info` has what this one gives, and a warning tells where that is not
    what was asked for.

    Args:
        index: 0 is the first camera.
        size: Height and width to ask for; None: the camera's own choice.
        rate: Frames a second to ask for; None: the camera's own choice.
        patience: How long to wait for what.

    Raises:
        VideoError: There is no such camera, or it gives no frame.
    """

    def __init__(
        self,
        index: int,
        *,
        size: tuple[int, int] | None = None,
        rate: Fraction | None = None,
        patience: Patience = Patience(),  # noqa: B008 - frozen
    ) -> None:
        self._index, self._size, self._rate = index, size, rate
        super().__init__(patience)
        given = (self.info.height, self.info.width)
        if size not in (None, given) or rate not in (None, self.info.rate):
            logger.warning(
                "%s gives %dx%d at %.3g fps, not what was asked for",
                self.name,
                *reversed(given),
                float(self.info.rate),
            )

    @property
    def name(self) -> str:
        """Camera and number."""
        return f"camera {self._index}"

    def _connect(self) -> _Camera:
        return _Camera(self._index, self._size, self._rate)


class _Camera:
    """An open camera."""

    def __init__(self, index: int, size: tuple[int, int] | None, rate: Fraction | None) -> None:
        with _quiet():
            try:
                self._capture: Any = cv2.VideoCapture(index)
                opened = self._capture.isOpened()
            except cv2.error:  # some backends throw where others answer
                opened = False
        if not opened:
            raise VideoError(
                f"there is no camera {index}, or another program uses it",
                expected="the number of a camera at this machine, 0 for the first",
                next_step="plug it in, try 1, or take a file, a URL or 'test' as the source; "
                "in a container, give it the device",
            )
        if size is not None:
            # Uncompressed, most cameras give large images a few times a second only.
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[0])
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[1])
        if rate is not None:
            self._capture.set(cv2.CAP_PROP_FPS, float(rate))
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._shape = (0, 0)

    @property
    def info(self) -> VideoInfo:
        rate = Fraction(self._capture.get(cv2.CAP_PROP_FPS)).limit_denominator(1001)
        return VideoInfo(
            height=self._shape[0],
            width=self._shape[1],
            rate=rate if rate > 0 else FALLBACK_RATE,
            time_base=UNIT,
        )

    def captures(self) -> Iterator[Capture]:
        while True:
            given, image = self._capture.read()
            captured = perf_counter()
            if not given or image is None:
                raise VideoError("the camera gives no more frames")
            self._shape = image.shape[:2]
            yield Capture(image=partial(_to_rgb, image), captured=captured)

    def close(self) -> None:
        self._capture.release()


def _to_rgb(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


@contextmanager
def _quiet() -> Iterator[None]:
    """Where OpenCV tries its backends one after another, it writes a line for each."""
    level = cv2.getLogLevel()
    cv2.setLogLevel(SILENT)
    try:
        yield
    finally:
        cv2.setLogLevel(level)
