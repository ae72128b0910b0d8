"""Backgrounds: a colour, a picture, a video that begins again. They fill any size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from segkit.errors import ConfigError
from segkit.video.frame import Image
from segkit.video.resize import resize_image
from segkit.video.sources import FileSource

__all__ = ["Backdrop", "Clip", "Color", "Still", "cover", "make_backdrop"]

HEX_COLOR = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
EXPECTED = "a colour such as #00ff00, or the file of a picture or a video"


class Backdrop(Protocol):
    """Gives backgrounds."""

    def __call__(self, size: tuple[int, int]) -> Image:
        """The next background, of that height and width; not to be changed."""


@dataclass(frozen=True)
class Color:
    """One colour.

    Args:
        rgb: 0..255 each.
    """

    rgb: tuple[int, int, int]

    def __call__(self, size: tuple[int, int]) -> Image:
        """The background."""
        return _plain(self.rgb, size)


class Still:
    """A picture, scaled until it covers all, what hangs over cut off on both sides.

    Args:
        image: uint8, (H, W, 3), RGB.
    """

    def __init__(self, image: Image) -> None:
        self._image = self._fitted = image

    def __call__(self, size: tuple[int, int]) -> Image:
        """The background."""
        if self._fitted.shape[:2] != size:
            self._fitted = cover(self._image, size)
        return self._fitted


class Clip:
    """A video, a frame of it for every picture; at its end it begins again.

    Args:
        path: The file.

    Raises:
        VideoError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._frames = _endless(path)
        self._next = next(self._frames)  # a file that cannot be read fails here

    def __call__(self, size: tuple[int, int]) -> Image:
        """The background.

        Raises:
            VideoError: The file cannot be read on.
        """
        image, self._next = self._next, next(self._frames)
        return cover(image, size)


def make_backdrop(text: str) -> Backdrop:
    """The background that a text names: #rrggbb, or the path of a picture or a video.

    Raises:
        ConfigError: There is no such file.
        VideoError: It is neither a picture nor a video.
    """
    color = HEX_COLOR.fullmatch(text)
    if color:
        red, green, blue = (int(channel, 16) for channel in color.groups())
        return Color((red, green, blue))
    path = Path(text)
    if not path.is_file():
        raise ConfigError(
            f"there is no background '{text}'", expected=EXPECTED, next_step="correct the path"
        )
    image = cv2.imread(text, cv2.IMREAD_COLOR) if cv2.haveImageReader(text) else None
    return Clip(path) if image is None else Still(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def cover(image: Image, size: tuple[int, int]) -> Image:
    """The middle of an image, so large that it fills that height and width."""
    scale = max(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (
        min(full, max(1, round(wanted / scale)))
        for full, wanted in zip(image.shape[:2], size, strict=True)
    )
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return resize_image(image[top : top + height, left : left + width], size)


@lru_cache(maxsize=2)
def _plain(rgb: tuple[int, int, int], size: tuple[int, int]) -> Image:
    return np.full((*size, 3), rgb, np.uint8)


def _endless(path: Path) -> Iterator[Image]:
    while True:
        with FileSource(path) as frames:
            for frame in frames:
                yield frame.image
