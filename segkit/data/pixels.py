"""Encoded images to RGB arrays and back, by OpenCV: its decoders let other threads run."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from segkit.errors import DataError

__all__ = ["decode_image", "encode_image"]


def decode_image(data: bytes, *, source: str, upright: bool = False) -> npt.NDArray[np.uint8]:
    """The pixels of a JPEG or PNG file: uint8, (H, W, 3), RGB.

    Args:
        data: The file.
        source: Where it came from, for the error message.
        upright: Turn the image as its EXIF tag says. A mask belongs to the pixels as they are
            stored, so labelled images stay as they are.

    Raises:
        DataError: It cannot be decoded.
    """
    flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if pixels is None:
        raise DataError(
            f"'{source}' cannot be decoded",
            expected="a whole JPEG or PNG file",
            next_step="export or copy the file again",
        )
    rgb: npt.NDArray[np.uint8] = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return rgb


def encode_image(pixels: npt.NDArray[np.uint8], suffix: str, *, jpeg_quality: int) -> bytes:
    """The file of an image (uint8, (H, W, 3), RGB); `suffix` is ".jpg" or ".png"."""
    if suffix == ".jpg":
        options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    else:
        # Photos hardly shrink further at higher levels, and take several times as long.
        options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    done, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    assert done, suffix
    return bytes(data)
