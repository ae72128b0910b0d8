"""MaskSink writes class ids, by frame index, completely or not at all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from segkit.errors import VideoError
from segkit.labels import LabelMap
from segkit.video import Frame, MaskSink, SegmentedFrame
from segkit.video.sinks import encode_mask_png


def segmented(index: int, mask: np.ndarray | None = None) -> SegmentedFrame:
    mask = np.full((4, 6), index % 3, np.uint8) if mask is None else mask
    picture = np.zeros((*mask.shape, 3), np.uint8)
    return SegmentedFrame(Frame(picture, index, Fraction(index)), mask, picture)


def test_masks_are_class_ids_to_a_program_and_colors_to_a_viewer(
    tmp_path: Path, labels: LabelMap
) -> None:
    from PIL import Image

    mask = np.random.default_rng(6).integers(0, 3, (31, 17), np.uint8)
    path = tmp_path / "mask.png"
    path.write_bytes(encode_mask_png(mask, labels.palette()))
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), mask)
    seen = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(seen, labels.palette()[mask])


def test_masks_are_named_by_their_frames_and_earlier_ones_go(
    tmp_path: Path, labels: LabelMap
) -> None:
    folder = tmp_path / "masks"
    with MaskSink(folder, labels) as sink:
        for index in range(3):
            sink.write(segmented(index))
    assert sorted(path.name for path in folder.iterdir()) == [f"00000{i}.png" for i in range(3)]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(VideoError, match="not empty") as caught:
        MaskSink(folder, labels)
    assert "--overwrite" in caught.value.next_step
    with MaskSink(folder, labels, overwrite=True) as sink:
        sink.write(segmented(0))
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "notes.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_file_where_masks_should_go_is_refused(tmp_path: Path, labels: LabelMap) -> None:
    path = tmp_path / "masks"
    path.write_text("")
    with pytest.raises(VideoError, match="is a file"):
        MaskSink(path, labels)


def test_ids_are_grey_to_everything_that_reads_them(tmp_path: Path, labels: LabelMap) -> None:
    mask = np.random.default_rng(6).integers(0, 256, (31, 17), np.uint8)
    with MaskSink(tmp_path / "ids", labels, form="ids") as sink:
        sink.write(segmented(4, mask))
    read = cv2.imread(str(tmp_path / "ids" / "000004.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read, mask)


def test_a_failure_leaves_no_mask_behind(tmp_path: Path, labels: LabelMap) -> None:
    with pytest.raises(RuntimeError), MaskSink(tmp_path / "masks", labels) as sink:
        sink.write(segmented(0))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_masks_of_a_live_stream_stay_when_it_fails(tmp_path: Path, labels: LabelMap) -> None:
    with pytest.raises(RuntimeError), MaskSink(tmp_path / "masks", labels, live=True) as sink:
        sink.write(segmented(0))
        raise RuntimeError
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["000000.png"]


def test_ctrl_c_keeps_the_whole_masks_so_far_and_says_so(
    tmp_path: Path,
    labels: LabelMap,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def half(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), MaskSink(tmp_path / "masks", labels) as sink:
        for index in range(3):
            sink.write(segmented(index))
        monkeypatch.setattr(Path, "write_bytes", half)
        sink.write(segmented(3))
    assert "3 masks so far" in caplog.text
    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert names == ["000000.png", "000001.png", "000002.png"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, labels: LabelMap) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VideoError, match="cannot be made") as caught:
        MaskSink(tmp_path / "file" / "masks", labels)
    assert "--save_masks" in caught.value.next_step


def test_a_full_disk_is_named(
    tmp_path: Path, labels: LabelMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with (
        pytest.raises(VideoError, match="000007.png' cannot be written .No space left") as caught,
        MaskSink(tmp_path / "masks", labels) as sink,
    ):
        sink.write(segmented(7))
    assert "make room" in caught.value.next_step
