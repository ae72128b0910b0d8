"""ImagesSource: the images of a folder, a pattern or a single file, as frames."""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from segkit.errors import VideoError
from segkit.video.frame import Frame, Image, VideoInfo
from segkit.video.sources.base import OpenSource

__all__ = ["IMAGE_SUFFIXES", "ImagesSource", "is_pattern"]

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
DEFAULT_RATE = Fraction(25)


class ImagesSource(OpenSource):
    """Images in natural order (2 before 10), each of its own size; turned as a camera noted.

    `info` has the size of the first. Masks are as large as their image; whoever needs one size for
    all, as a video file does, scales. One that cannot be read is left out with a warning, and its
    index with it: an index is the place in `paths`.

    Args:
        text: A folder, whose images are taken but not those of folders in it; a pattern such as
            `drive/*.png` or `drive/**/*.jpg`; or one image.
        rate: Images a second, for their times.

    Raises:
        VideoError: There is no image, or none that can be read.
    """

    def __init__(self, text: str, *, rate: Fraction = DEFAULT_RATE) -> None:
        self._name, self._rate = text, rate
        self._paths = _find(text)
        if not self._paths:
            raise VideoError(
                f"'{text}' has no image",
                expected=f"files that end in {', '.join(IMAGE_SUFFIXES)}",
                next_step="correct the path; quote a pattern, or the shell expands it",
            )
        found = next(self._read(), None)
        if found is None:
            raise VideoError(
                f"none of the {len(self._paths)} images of '{text}' can be read",
                expected="images that OpenCV can decode",
            )
        height, width = found[1].shape[:2]
        self._info = VideoInfo(
            height=height,
            width=width,
            rate=rate,
            time_base=1 / rate,
            num_frames=len(self._paths),
        )

    @property
    def name(self) -> str:
        """As it was given."""
        return self._name

    @property
    def info(self) -> VideoInfo:
        """The first image's size."""
        return self._info

    @property
    def paths(self) -> tuple[Path, ...]:
        """The images, in order: a frame's index is a place here."""
        return self._paths

    def __iter__(self) -> Iterator[Frame]:
        """The images, as often as one asks."""
        for index, image in self._read(warn=True):
            yield Frame(image, index, index / self._rate)

    def close(self) -> None:
        """There is nothing to close."""

    def _read(self, *, warn: bool = False) -> Iterator[tuple[int, Image]]:
        for index, path in enumerate(self._paths):
            image = _read(path)
            if image is not None:
                yield index, image
            elif warn:
                logger.warning("'%s' cannot be read as an image and is left out", path)


def is_pattern(text: str) -> bool:
    """Whether it is a pattern of files and not the name of one."""
    return glob.has_magic(text) and not Path(text).exists()


def _find(text: str) -> tuple[Path, ...]:
    if is_pattern(text):
        found = [Path(path) for path in glob.glob(text, recursive=True)]
    else:
        found = list(Path(text).iterdir()) if Path(text).is_dir() else [Path(text)]
    images = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    return tuple(sorted(images, key=_natural))


def _natural(path: Path) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", str(path))
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def _read(path: Path) -> Image | None:
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(image)
