"""A source is opened as what its text says it is."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from segkit.errors import ConfigError, VideoError
from segkit.video import FileSource, Frame
from segkit.video.sources import ImagesSource, PatternSource, Selection, open_source


def test_a_file_is_a_file_whatever_its_name(clip: Path, tmp_path: Path) -> None:
    for name in ("clip.mp4", "0", "test:.mkv", "view [1].mp4"):
        path = Path(shutil.copy(clip, tmp_path / name))
        with open_source(str(path)) as source:
            assert isinstance(source, FileSource)
            assert source.path == path


@pytest.mark.parametrize("text", ["{0}", "{0}/*.png", "{0}/1.png"])
def test_images(text: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((4, 4, 3), np.uint8))
    with open_source(text.format(tmp_path), rate=5) as source:
        assert isinstance(source, ImagesSource)
        assert source.info.rate == 5
        assert len(list(source)) == 1


@pytest.mark.parametrize(
    ("text", "size", "rate"),
    [
        ("test", (480, 640), Fraction(30)),
        ("test:320x240", (240, 320), Fraction(30)),
        ("test:1920x1080@29.97", (1080, 1920), Fraction(2997, 100)),
        ("test:64x48@30000/1001", (48, 64), Fraction(30000, 1001)),
    ],
)
def test_test_patterns(text: str, size: tuple[int, int], rate: Fraction) -> None:
    with open_source(text) as source:
        assert isinstance(source, PatternSource)
        info = source.info
    assert ((info.height, info.width), info.rate, info.live) == (size, rate, True)


def test_a_test_pattern_that_is_not_live_ends() -> None:
    with open_source("test:64x48@10", live=False) as source:
        assert not source.info.live
        assert len(list(source)) == 100
    with open_source("test:64x48@10", live=False, end=30) as source:
        assert len(list(source)) == 300


def test_parts_are_selected(clip: Path) -> None:
    with open_source(str(clip), start=0.2, end=0.8, stride=2, max_fps=10) as source:
        assert isinstance(source, Selection)
        frames: list[Frame] = list(source)
    assert [frame.index for frame in frames] == [6, 8, 12, 14, 18, 20]


def test_decimal_seconds_are_what_was_written() -> None:
    with open_source("test:64x48@10", live=False, start=0.3, end=0.6) as source:
        assert [frame.index for frame in source] == [3, 4, 5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("absent.mp4", "'absent.mp4' does not exist"),
        ("test:640", "'test:640' is no test pattern"),
        ("test:640x480@0", "no test pattern that can be drawn"),
        ("test:640x480@3/0", "no test pattern that can be drawn"),
        ("test:2x2", "no test pattern that can be drawn"),
        ("test:99999x480", "no test pattern that can be drawn"),
        ("srt://u:geheim@host", r"'srt://u:\*\*\*@host' begins with srt://"),
        ("file:///etc/passwd", "begins with file://"),
        ("absent/*.png", "'absent/\\*.png' has no image"),
        ("97", "there is no camera 97"),
    ],
)
def test_what_cannot_be_opened_is_said(text: str, words: str) -> None:
    with pytest.raises(VideoError, match=words):
        open_source(text)


def test_a_missing_source_lists_what_there_is() -> None:
    with pytest.raises(VideoError) as caught:
        open_source("absent")
    for kind in ("camera", "file", "folder", "rtsp://", "test"):
        assert kind in caught.value.expected


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"start": float("nan")}, "--start is nan"),
        ({"end": float("inf")}, "--end is inf"),
        ({"rate": 0}, "--rate is 0"),
        ({"max_fps": -1}, "--max_fps is -1"),
        ({"stride": 0}, "--stride is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(how: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_source("test", **how)  # type: ignore[arg-type]
