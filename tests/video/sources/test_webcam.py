"""Webcams, by OpenCV's own reading of a clip where this machine has none."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import pytest

from segkit.errors import VideoError
from segkit.video import FileSource
from segkit.video.sources import Patience, WebcamSource

QUICK = Patience(open=2, stall=1, outage=2)
REAL = cv2.VideoCapture


class FakeCamera:
    """Plays a clip at 100 fps, from its beginning each time it is plugged in."""

    plugged_in: list[Path]

    def __init__(self, index: int) -> None:
        assert index == 2
        self.video: Any = REAL(str(self.plugged_in.pop(0))) if self.plugged_in else None
        self.asked: dict[int, float] = {}

    def isOpened(self) -> bool:
        return self.video is not None

    def set(self, name: int, value: float) -> bool:
        self.asked[name] = value
        return False  # as cameras answer that do as they like

    def get(self, name: int) -> float:
        return float(self.video.get(name))

    def read(self) -> Any:
        time.sleep(0.01)
        return self.video.read()

    def release(self) -> None:
        if self.video is not None:
            self.video.release()


@pytest.fixture
def camera(clip: Path, monkeypatch: pytest.MonkeyPatch) -> type[FakeCamera]:
    FakeCamera.plugged_in = [clip]
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    return FakeCamera


def test_no_camera_is_one_sentence_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    level = cv2.getLogLevel()
    with pytest.raises(VideoError, match="there is no camera 97") as caught:
        WebcamSource(97, patience=QUICK)
    assert "'test'" in caught.value.next_step
    assert capfd.readouterr() == ("", "")
    assert cv2.getLogLevel() == level


def test_a_backend_that_throws_is_no_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    def throw(index: int) -> None:
        raise cv2.error("obsensor")

    monkeypatch.setattr(cv2, "VideoCapture", throw)
    with pytest.raises(VideoError, match="there is no camera 0"):
        WebcamSource(0, patience=QUICK)


def test_frames_are_rgb_and_info_is_what_the_camera_gives(
    camera: type[FakeCamera], clip: Path
) -> None:
    with WebcamSource(2, patience=QUICK) as source:
        assert source.name == "camera 2"
        assert (source.info.height, source.info.width) == (96, 160)
        assert source.info.rate == Fraction(30000, 1001)
        assert source.info.live
        frame = next(iter(source))
    with FileSource(clip) as file:
        expected = list(file)[frame.index].image
    assert abs(frame.image.astype(int) - expected.astype(int)).mean() < 4
    red, green, blue = frame.image[45, 4 * frame.index + 15].astype(int)
    assert red > 180 > 90 > max(green, blue)


def test_what_was_asked_for_and_not_given_is_said(
    camera: type[FakeCamera], caplog: pytest.LogCaptureFixture
) -> None:
    with WebcamSource(2, size=(720, 1280), rate=Fraction(60), patience=QUICK):
        pass
    assert "camera 2 gives 160x96 at 30 fps, not what was asked for" in caplog.text


def test_what_was_asked_for_and_given_is_not(
    camera: type[FakeCamera], caplog: pytest.LogCaptureFixture
) -> None:
    with WebcamSource(2, size=(96, 160), patience=QUICK):
        pass
    assert caplog.text == ""


def test_a_camera_that_is_plugged_in_again_goes_on(camera: type[FakeCamera], clip: Path) -> None:
    camera.plugged_in.append(clip)
    with WebcamSource(2, patience=QUICK) as source:
        indices: list[int] = []
        with pytest.raises(VideoError, match="has been away for 2 s: there is no camera 2"):
            indices.extend(frame.index for frame in source)
        assert source.restarts == 1
    assert len(indices) > 30, "more than the clip has once"
    assert indices == sorted(set(indices))
