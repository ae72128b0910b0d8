"""Snapshots and recordings are made when the controls ask, and overwrite nothing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from segkit.errors import VideoError
from segkit.video import (
    Controls,
    FileSource,
    Frame,
    RecordingSink,
    SegmentedFrame,
    SnapshotSink,
    VideoInfo,
)

INFO = VideoInfo(height=48, width=64, rate=Fraction(25), time_base=Fraction(1, 25), live=True)


def segmented(index: int) -> SegmentedFrame:
    picture = np.full((48, 64, 3), (10, 20, 3 * index), np.uint8)
    return SegmentedFrame(Frame(picture, index, Fraction(index, 25)), picture[..., 0], picture)


def frames_of(path: Path) -> int:
    with FileSource(path) as source:
        return len(list(source))


def test_a_snapshot_is_saved_once_for_each_request(tmp_path: Path) -> None:
    controls = Controls()
    folder = tmp_path / "shots"
    for _ in range(2):  # the second run keeps what the first one saved
        with SnapshotSink(folder, controls) as sink:
            for index in range(4):
                if index in (1, 3):
                    controls.request_snapshot()
                sink.write(segmented(index))
    assert sorted(path.name for path in folder.iterdir()) == [
        "snapshot-000001-1.png",
        "snapshot-000001.png",
        "snapshot-000003-1.png",
        "snapshot-000003.png",
    ]
    picture = cv2.imread(str(folder / "snapshot-000003.png"))
    assert picture[0, 0].tolist() == [9, 20, 10]  # BGR


def test_without_a_request_there_is_no_folder(tmp_path: Path) -> None:
    with SnapshotSink(tmp_path / "shots", Controls()) as sink:
        sink.write(segmented(0))
    with RecordingSink(tmp_path / "recordings", INFO, Controls()) as recorder:
        recorder.write(segmented(0))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    controls = Controls(can_record=True)
    controls.request_snapshot()
    controls.change(recording=True)
    with pytest.raises(VideoError, match="snapshot-000000.png' cannot be written"):
        SnapshotSink(tmp_path / "file" / "x", controls).write(segmented(0))
    with pytest.raises(VideoError, match="cannot be made") as caught:
        RecordingSink(tmp_path / "file" / "x", INFO, controls).write(segmented(0))
    assert "--record" in caught.value.next_step


def test_each_recording_is_a_file_of_its_own(tmp_path: Path) -> None:
    controls = Controls(can_record=True)
    with RecordingSink(tmp_path, INFO, controls) as sink:
        for index in range(30):
            if index in (5, 12, 20):
                controls.toggle("recording")
            sink.write(segmented(index))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "recording-1.mp4",
        "recording-2.mp4",
    ]
    assert frames_of(tmp_path / "recording-1.mp4") == 7
    assert frames_of(tmp_path / "recording-2.mp4") == 10


def test_a_recording_is_kept_when_the_stream_fails(tmp_path: Path) -> None:
    controls = Controls(can_record=True)
    controls.change(recording=True)
    with pytest.raises(RuntimeError), RecordingSink(tmp_path, INFO, controls) as sink:
        for index in range(5):
            sink.write(segmented(index))
        raise RuntimeError("the camera is gone")
    assert frames_of(tmp_path / "recording-1.mp4") == 5
