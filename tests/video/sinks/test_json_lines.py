"""JsonLinesSink writes whole lines at once, and its name only when it is complete."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit.errors import VideoError
from segkit.labels import IGNORE_ID, LabelMap
from segkit.video import Frame, JsonLinesSink, SegmentedFrame


def segmented(index: int) -> SegmentedFrame:
    mask = np.zeros((10, 10), np.uint8)
    mask[:3], mask[9] = 1, IGNORE_ID
    picture = np.zeros((10, 10, 3), np.uint8)
    frame = Frame(picture, index, Fraction(index * 1001, 30000))
    return SegmentedFrame(frame, mask, picture, stage_ms={"decode": 1.5, "server": 20.0})


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_tells_of_its_frame(tmp_path: Path, labels: LabelMap) -> None:
    path = tmp_path / "frames.jsonl"
    with JsonLinesSink(path, labels, dropped=lambda: {"stale": 3}) as sink:
        for index in (5, 7):
            sink.write(segmented(index))
    assert read(path)[1] == {
        "index": 7,
        "time_s": 0.233567,
        "shares": {"background": 0.6, "road": 0.3, "car": 0.0},
        "stage_ms": {"decode": 1.5, "server": 20.0},
        "dropped": {"stale": 3},
    }
    assert [line["index"] for line in read(path)] == [5, 7]


def test_lines_can_be_read_while_it_runs(tmp_path: Path, labels: LabelMap) -> None:
    path = tmp_path / "frames.jsonl"
    with JsonLinesSink(path, labels) as sink:
        for count in (1, 2, 3):
            sink.write(segmented(count))
            assert len(read(tmp_path / "frames.jsonl.partial")) == count
            assert not path.exists()
    assert list(tmp_path.iterdir()) == [path]
    assert "dropped" not in read(path)[0]


def test_a_failure_leaves_no_file_unless_it_is_live(tmp_path: Path, labels: LabelMap) -> None:
    for live in (False, True):
        path = tmp_path / f"{live}.jsonl"
        with pytest.raises(RuntimeError), JsonLinesSink(path, labels, live=live) as sink:
            sink.write(segmented(0))
            raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["True.jsonl"]


def test_ctrl_c_keeps_the_lines_so_far_and_says_so(
    tmp_path: Path, labels: LabelMap, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "frames.jsonl"
    with pytest.raises(KeyboardInterrupt), JsonLinesSink(path, labels) as sink:
        sink.write(segmented(0))
        raise KeyboardInterrupt
    assert "1 lines so far" in caplog.text
    assert len(read(path)) == 1


def test_a_file_that_exists_is_kept_unless_told(tmp_path: Path, labels: LabelMap) -> None:
    path = tmp_path / "frames.jsonl"
    path.write_text("precious")
    with pytest.raises(VideoError, match="exists") as caught:
        JsonLinesSink(path, labels)
    assert "--overwrite" in caught.value.next_step
    with JsonLinesSink(path, labels, overwrite=True) as sink:
        assert path.read_text() == "precious"
        sink.write(segmented(0))
    assert len(read(path)) == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, labels: LabelMap) -> None:
    with pytest.raises(VideoError, match="cannot be written") as caught:
        JsonLinesSink(tmp_path / "absent" / "frames.jsonl", labels)
    assert "folder that exists" in caught.value.expected


def test_a_full_disk_is_named(tmp_path: Path, labels: LabelMap) -> None:
    sink = JsonLinesSink(tmp_path / "frames.jsonl", labels)
    sink._file.close()
    sink._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with pytest.raises(VideoError, match="failed after frame 0 .No space left") as caught, sink:
        sink.write(segmented(0))
    assert "make room" in caught.value.next_step
    assert list(tmp_path.iterdir()) == []
