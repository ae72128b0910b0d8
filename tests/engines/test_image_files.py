from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from segkit.engines import StatusError
from segkit.engines.image_files import MAX_PIXELS, decode_image

IMAGE = np.random.default_rng(2).integers(0, 256, (30, 50, 3), np.uint8)
UNKNOWN = "Unknown image file format. One of JPEG, PNG, GIF, BMP required."


def encode(suffix: str) -> bytes:
    ok, file = cv2.imencode(suffix, cv2.cvtColor(IMAGE, cv2.COLOR_RGB2BGR))
    assert ok
    return file.tobytes()


def png_head(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
    )


def of_size(suffix: str, width: int, height: int) -> bytes:
    """A file whose head says that it is as large as that."""
    file = bytearray(encode(suffix))
    if suffix == ".png":
        file[: len(png_head(0, 0))] = png_head(width, height)
    elif suffix == ".jpg":
        struct.pack_into(">HH", file, file.index(b"\xff\xc0") + 5, height, width)
    else:
        struct.pack_into("<ii", file, 18, width, -height)
    return bytes(file)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_lossless_files_give_their_pixels(suffix: str) -> None:
    np.testing.assert_array_equal(decode_image(encode(suffix)), IMAGE)


def test_jpeg_is_decoded_whatever_lies_between_its_markers() -> None:
    file = encode(".jpg")
    image = decode_image(file)
    assert image.shape == IMAGE.shape
    padded = file[:2] + b"\xff\xff\xff\x01junk\xff\x00" + file[2:]
    np.testing.assert_array_equal(decode_image(padded), image)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_an_image_too_large_is_refused_by_its_head(suffix: str) -> None:
    with pytest.raises(StatusError, match=r"INVALID_ARGUMENT: \w+ size too large: 60000 by 60000"):
        decode_image(of_size(suffix, 60000, 60000))


def test_the_limit_itself_is_tried() -> None:
    with pytest.raises(StatusError, match="Unknown image file format"):  # the pixels are missing
        decode_image(of_size(".png", MAX_PIXELS // 1024, 1024))


@pytest.mark.parametrize("suffix", [".webp", ".tiff", ".ppm"])
def test_what_tensorflow_does_not_take_is_refused(suffix: str) -> None:
    with pytest.raises(StatusError) as caught:
        decode_image(encode(suffix))
    assert caught.value.message == UNKNOWN


@pytest.mark.parametrize(
    "file",
    [
        b"no image",
        b"BM",
        b"GIF8",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0",
        b"\xff\xd8\xff\xe0\xff\xff" + bytes(40),
        b"\x89PNG\r\n\x1a\n",
        png_head(0, 0),
        png_head(2**31 - 1, 0),
    ],
)
def test_damaged_files_are_refused(file: bytes) -> None:
    with pytest.raises(StatusError) as caught:
        decode_image(file)
    assert caught.value.message == UNKNOWN


def test_an_empty_file_is_said_to_be_empty() -> None:
    with pytest.raises(StatusError, match="Input is empty"):
        decode_image(b"")
