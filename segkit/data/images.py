"""Encoded images and masks: checked when read, written as 8-bit PNG.

Masks are opened with Pillow: OpenCV and TensorFlow give the colours of a palette PNG, or their
grey values, never the indices.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from segkit.errors import DataError

__all__ = ["IMAGE_SUFFIXES", "ImageInfo", "MaskFile", "check_image", "encode_mask", "open_mask"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

_SUFFIX_OF_FORMAT = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png"}
_ORIENTATION_TAG = 0x0112


class ImageInfo(NamedTuple):
    """What an encoded image is: ".jpg" or ".png" by content, its size, whether EXIF turns it."""

    suffix: str
    height: int
    width: int
    turned: bool


class MaskFile(NamedTuple):
    """An opened mask file.

    `values` is uint8: (H, W) of indices, or (H, W, 3) of RGB colours. `palette` is uint8,
    (256, 3), where the indices of the file stand for colours, else None.
    """

    values: npt.NDArray[np.uint8]
    palette: npt.NDArray[np.uint8] | None


def check_image(data: bytes, *, source: str) -> ImageInfo:
    """Decodes an image once, so that a damaged one is found now and not in the tenth epoch.

    Raises:
        DataError: It is no JPEG or PNG of 8 bits, or it is damaged.
    """
    image = _open(data, source)
    if image.format not in _SUFFIX_OF_FORMAT or image.mode not in ("L", "LA", "P", "RGB", "RGBA"):
        raise DataError(
            f"image '{source}' is a {image.format} file of mode {image.mode}",
            expected="JPEG or PNG, grey or RGB, 8 bits a channel",
            next_step="convert it, for example with 'ffmpeg -i IN -pix_fmt rgb24 OUT.png'",
        )
    turned = image.getexif().get(_ORIENTATION_TAG, 1) not in (0, 1)
    return ImageInfo(_SUFFIX_OF_FORMAT[image.format], image.height, image.width, turned)


def open_mask(data: bytes, *, source: str) -> MaskFile:
    """Decodes a mask as it was stored: indices stay indices, colours stay colours.

    Raises:
        DataError: It is no 8-bit PNG, or it is damaged.
    """
    mask = _open(data, source)
    if mask.format != "PNG" or mask.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise DataError(
            f"mask '{source}' is a {mask.format} file of mode {mask.mode}",
            expected="a PNG, 8 bits a channel: JPEG changes colours, 16 bits hold no class ids",
            next_step="export the masks again as 8-bit PNG",
        )
    if mask.mode == "P":
        table = np.zeros((256, 3), np.uint8)
        entries = np.array(mask.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        table[: len(entries)] = entries
        return MaskFile(np.array(mask), table)
    if mask.mode in ("RGB", "RGBA"):
        return MaskFile(np.array(mask)[..., :3], None)
    if mask.mode == "LA":
        return MaskFile(np.array(mask)[..., 0], None)
    return MaskFile(np.array(mask, np.uint8), None)


def encode_mask(mask: npt.NDArray[np.uint8]) -> bytes:
    """A mask (uint8, (H, W)) as an 8-bit grey PNG whose values are the class ids."""
    buffer = io.BytesIO()
    # Masks are flat: level 1 gives nearly the size of level 6 in a third of the time.
    Image.fromarray(mask).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _open(data: bytes, source: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as err:
        # Pillow's own words name an object in memory.
        unknown = "it is no image" if data else "it is empty"
        raise DataError(
            f"'{source}' cannot be decoded: "
            f"{unknown if isinstance(err, UnidentifiedImageError) else err}",
            expected="a whole JPEG or PNG file",
            next_step="export or copy the file again",
        ) from err
    return image
