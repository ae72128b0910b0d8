"""Sinks write what they were given, exactly and completely or not at all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from segkit.errors import VideoError
from segkit.labels import LabelMap
from segkit.video import FileSource, Frame, MaskSink, SegmentedFrame, VideoFileSink, VideoInfo
from segkit.video.sinks import encode_mask_png

RATE = Fraction(30000, 1001)


def info(height: int = 48, width: int = 64, time_base: Fraction = 1 / RATE) -> VideoInfo:
    return VideoInfo(height=height, width=width, rate=RATE, time_base=time_base)


def segmented(index: int, picture: np.ndarray, time: Fraction | None = None) -> SegmentedFrame:
    frame = Frame(picture, index, index / RATE if time is None else time)
    return SegmentedFrame(frame, picture[..., 0] % 3, picture)


def plain(color: tuple[int, int, int], height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def test_clip_goes_through_with_its_frames_rate_and_times(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with FileSource(clip) as source, VideoFileSink(path, source.info) as sink:
        for frame in source:
            sink.write(SegmentedFrame(frame, frame.image[..., 0], frame.image))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.pix_fmt == "yuv420p"
        assert stream.average_rate == RATE
        assert stream.frames == 30
    with FileSource(clip) as given, FileSource(path) as written:
        for before, after in zip(given, written, strict=True):
            assert after.time == before.time
            difference = np.abs(after.image.astype(int) - before.image.astype(int))
            assert difference.mean() < 8


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    times = [Fraction(0), Fraction(1, 50), Fraction(7, 100), Fraction(1), Fraction(101, 100)]
    path = tmp_path / "out.mkv"
    with VideoFileSink(path, info(time_base=Fraction(1, 1000))) as sink:
        for index, time in enumerate(times):
            sink.write(segmented(index, plain((9, 9, 9)), time))
    with FileSource(path) as source:
        assert [frame.time for frame in source] == times


@pytest.mark.parametrize("color", [(220, 40, 40), (40, 180, 40), (30, 30, 200), (250, 250, 250)])
@pytest.mark.parametrize("height", [48, 720])
def test_colors_survive_at_any_size(
    tmp_path: Path, color: tuple[int, int, int], height: int
) -> None:
    path = tmp_path / "out.mp4"
    with VideoFileSink(path, info(height)) as sink:
        for index in range(3):
            sink.write(segmented(index, plain(color, height)))
    with FileSource(path) as source:
        for frame in source:
            np.testing.assert_allclose(frame.image[10:-10, 10:-10].mean((0, 1)), color, atol=4)


def test_odd_sizes_are_padded_by_one(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoFileSink(path, info(47, 63)) as sink:
        sink.write(segmented(0, plain((200, 10, 10), 47, 63)))
    with FileSource(path) as source:
        assert (source.info.height, source.info.width) == (48, 64)
        assert next(iter(source)).image[-1, -1, 0] > 150


def test_an_output_that_exists_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_text("precious")
    with pytest.raises(VideoError, match="exists") as caught:
        VideoFileSink(path, info())
    assert "--overwrite" in caught.value.next_step
    assert path.read_text() == "precious"
    with VideoFileSink(path, info(), overwrite=True) as sink:
        sink.write(segmented(0, plain((1, 2, 3))))
    with FileSource(path) as source:
        assert source.info.width == 64


def test_an_output_of_an_unknown_kind_or_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"\.mp4, \.mov, \.mkv"):
        VideoFileSink(tmp_path / "out.jpg", info())
    with pytest.raises(VideoError, match="cannot be written") as caught:
        VideoFileSink(tmp_path / "absent" / "out.mp4", info())
    assert "folder that exists" in caught.value.expected


def test_a_failure_leaves_nothing_behind(tmp_path: Path, labels: LabelMap) -> None:
    masks = tmp_path / "masks"
    with (
        pytest.raises(KeyboardInterrupt),
        VideoFileSink(tmp_path / "out.mp4", info()) as video,
        MaskSink(masks, labels) as folder,
    ):
        for sink in (video, folder):
            sink.write(segmented(0, plain((1, 2, 3))))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


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
            sink.write(segmented(index, plain((1, 2, 3))))
    assert sorted(path.name for path in folder.iterdir()) == [f"00000{i}.png" for i in range(3)]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(VideoError, match="not empty") as caught:
        MaskSink(folder, labels)
    assert "--overwrite" in caught.value.next_step
    with MaskSink(folder, labels, overwrite=True) as sink:
        sink.write(segmented(0, plain((1, 2, 3))))
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "notes.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_file_where_masks_should_go_is_refused(tmp_path: Path, labels: LabelMap) -> None:
    path = tmp_path / "masks"
    path.write_text("")
    with pytest.raises(VideoError, match="is a file"):
        MaskSink(path, labels)
