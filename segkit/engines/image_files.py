"""Images as clients send them: JPEG, PNG, GIF or BMP, as TensorFlow's decoder takes them.

A few kilobytes may hold an image of gigabytes. So the size is read first, from the file's head, and
what is too large is refused before anything is allocated for it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from segkit.engines.base import Code, StatusError

__all__ = ["MAX_PIXELS", "decode_image"]

MAX_PIXELS = 1 << 27  # 0.4 GB as RGB; TensorFlow takes four times as many
UNKNOWN = "Unknown image file format. One of JPEG, PNG, GIF, BMP required."

# A marker of JPEG that a length follows. As libjpeg does, what lies between two is skipped.
MARKER = re.compile(rb"\xff[\x02-\xcf\xda-\xfe]")
# Those that start a frame, and so hold its size; C4, C8 and CC are others.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
BMP_CORE_HEADER = 12  # its length; the others have 32 bits for a size


def decode_image(file: bytes) -> npt.NDArray[np.uint8]:
    """The image in a file: uint8, (H, W, 3), RGB.

    Raises:
        StatusError: It is no such file, is damaged, or has more than MAX_PIXELS.
    """
    if not file:
        raise _invalid("Input is empty.")
    kind = next((kind for kind in SIGNATURES if file.startswith(SIGNATURES[kind])), None)
    if kind is None:
        raise _invalid(UNKNOWN)
    try:
        width, height = SIZES[kind](file)
    except struct.error as err:  # the head is not there as a whole
        raise _invalid(UNKNOWN) from err
    if width * height > MAX_PIXELS:
        raise _invalid(f"{kind} size too large: {width} by {height}")
    # As in the SavedModel, a photograph is not turned by what its EXIF says.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(file, np.uint8), flags)
    except cv2.error as err:
        raise _invalid(UNKNOWN) from err
    if image is None:
        raise _invalid(UNKNOWN)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _jpeg_size(file: bytes) -> tuple[int, int]:
    position = 2
    while found := MARKER.search(file, position):
        position = found.end()
        if found[0][1] in FRAMES:
            height, width = struct.unpack_from(">HH", file, position + 3)
            return width, height
        position += struct.unpack_from(">H", file, position)[0]
    raise struct.error("there is no frame")


def _png_size(file: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", file, 16)
    return width, height


def _gif_size(file: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", file, 6)
    return width, height


def _bmp_size(file: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", file, 14)
    layout = "<HH" if header == BMP_CORE_HEADER else "<ii"
    width, height = struct.unpack_from(layout, file, 18)
    return abs(width), abs(height)  # a negative height turns the rows round


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)


SIGNATURES = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "GIF": b"GIF8", "BMP": b"BM"}
SIZES: Mapping[str, Callable[[bytes], tuple[int, int]]] = {
    "JPEG": _jpeg_size,
    "PNG": _png_size,
    "GIF": _gif_size,
    "BMP": _bmp_size,
}
