from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from segkit.data.pixels import decode_image, encode_image
from segkit.errors import DataError


def photo() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Red grows to the right, green downwards."""
    red, green = np.meshgrid(np.arange(0, 240, 4), np.arange(0, 160, 4))
    return np.stack([red, green, 0 * red], -1).astype(np.uint8)


def test_a_png_comes_back_bit_for_bit_in_rgb() -> None:
    data = encode_image(photo(), ".png", jpeg_quality=1)
    np.testing.assert_array_equal(decode_image(data, source="a"), photo())
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(data))), photo())


def test_the_quality_of_a_jpeg_is_that_asked_for() -> None:
    fine, coarse = (encode_image(photo(), ".jpg", jpeg_quality=q) for q in (95, 20))
    assert len(coarse) < len(fine)
    assert abs(decode_image(fine, source="a").astype(int) - photo()).mean() < 2


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo()).convert(mode).save(buffer, format="PNG")
    decoded = decode_image(buffer.getvalue(), source="a")
    assert decoded.shape == photo().shape


def test_an_exif_tag_turns_a_picture_but_not_a_labelled_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    buffer = io.BytesIO()
    Image.fromarray(photo()).save(buffer, format="JPEG", exif=exif)
    assert decode_image(buffer.getvalue(), source="a").shape == (40, 60, 3)
    assert decode_image(buffer.getvalue(), source="a", upright=True).shape == (60, 40, 3)


@pytest.mark.parametrize("data", [b"", b"GIF89a"])
def test_what_is_no_image_is_named(data: bytes) -> None:
    with pytest.raises(DataError, match="'a.jpg' cannot be decoded"):
        decode_image(data, source="a.jpg")
