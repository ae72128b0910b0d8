"""Images are frames in natural order, each of its own size."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segkit.errors import VideoError
from segkit.video.sources import ImagesSource


def write(path: Path, value: int, size: tuple[int, int] = (6, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), (0, 0, value), np.uint8))  # red, in BGR
    return path


def values(source: ImagesSource) -> list[int]:
    return [int(frame.image[0, 0, 0]) for frame in source]


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for value, name in [(10, "frame10.png"), (2, "frame2.png"), (1, "frame1.PNG")]:
        write(tmp_path / name, value)
    write(tmp_path / "deeper" / "frame0.png", 99)
    (tmp_path / "notes.txt").write_text("no image")
    with ImagesSource(str(tmp_path), rate=Fraction(10)) as source:
        assert values(source) == [1, 2, 10]
        assert [path.name for path in source.paths] == ["frame1.PNG", "frame2.png", "frame10.png"]
        assert [frame.time for frame in source] == [0, Fraction(1, 10), Fraction(2, 10)]
        assert (source.info.num_frames, source.info.rate) == (3, 10)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"])
def test_every_kind_is_rgb(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"image{suffix}", 250, (16, 16))
    frame = next(iter(ImagesSource(str(path))))
    assert frame.image.shape == (16, 16, 3)
    np.testing.assert_allclose(frame.image[8, 8], (250, 0, 0), atol=6)


def test_patterns_reach_into_folders(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder / "1.png", ord(folder))
        write(tmp_path / folder / "1.jpg", 0)
    assert values(ImagesSource(str(tmp_path / "**" / "*.png"))) == [ord("a"), ord("b")]


def test_a_name_that_looks_like_a_pattern_is_a_name_where_it_exists(tmp_path: Path) -> None:
    write(tmp_path / "view[1].png", 7)
    assert values(ImagesSource(str(tmp_path / "view[1].png"))) == [7]


def test_images_keep_their_own_sizes(tmp_path: Path) -> None:
    write(tmp_path / "1.png", 1, (6, 8))
    write(tmp_path / "2.png", 2, (10, 4))
    source = ImagesSource(str(tmp_path))
    assert [frame.image.shape for frame in source] == [(6, 8, 3), (10, 4, 3)]
    assert (source.info.height, source.info.width) == (6, 8)


def test_an_image_is_turned_as_its_camera_noted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert next(iter(ImagesSource(str(tmp_path)))).image.shape == (8, 4, 3)


def test_an_image_that_cannot_be_read_leaves_its_place_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "0.png").write_bytes(b"")
    write(tmp_path / "1.png", 1)
    (tmp_path / "2.png").write_text("not a picture")
    write(tmp_path / "3.png", 3)
    source = ImagesSource(str(tmp_path))
    assert [frame.index for frame in source] == [1, 3]
    assert "2.png' cannot be read as an image" in caplog.text
    assert caplog.text.count("left out") == 2


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="has no image") as caught:
        ImagesSource(str(tmp_path))
    assert ".jpg" in caught.value.expected
    with pytest.raises(VideoError, match=r"\*.png' has no image") as caught:
        ImagesSource(str(tmp_path / "*.png"))
    assert "quote a pattern" in caught.value.next_step


def test_images_of_which_none_can_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_text("no")
    with pytest.raises(VideoError, match="none of the 1 images"):
        ImagesSource(str(tmp_path))
