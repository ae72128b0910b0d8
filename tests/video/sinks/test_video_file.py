"""VideoFileSink writes what it was given, exactly, and completely or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from segkit.errors import VideoError
from segkit.video import FileSource, Frame, SegmentedFrame, VideoFileSink, VideoInfo

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


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="the server"),
        VideoFileSink(tmp_path / "out.mp4", info()) as sink,
    ):
        sink.write(segmented(0, plain((1, 2, 3))))
        raise RuntimeError("the server is gone")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_keeps_the_frames_so_far_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, interruption: type[BaseException]
) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(interruption), VideoFileSink(path, info()) as sink:
        for index in range(7):
            sink.write(segmented(index, plain((1, 2, 3))))
        raise interruption
    assert "interrupted" in caplog.text
    assert "7 frames so far" in caplog.text
    with FileSource(path) as source:
        assert len(list(source)) == 7
    assert list(tmp_path.iterdir()) == [path]


def test_a_live_recording_is_kept_when_its_stream_fails(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with (
        pytest.raises(RuntimeError, match="camera"),
        VideoFileSink(path, replace(info(), live=True)) as sink,
    ):
        for index in range(7):
            sink.write(segmented(index, plain((1, 2, 3))))
        raise RuntimeError("the camera is unplugged")
    with FileSource(path) as source:
        assert len(list(source)) == 7


def test_a_live_recording_that_cannot_be_finished_stays_as_far_as_it_can_be_played(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "out.mp4"
    sink = VideoFileSink(path, replace(info(), live=True))
    with pytest.raises(VideoError, match="failed after frame 60"), sink:
        for index in range(60):
            sink.write(segmented(index, plain((1, 2, 3))))
        path.mkdir()
        (path / "x").touch()  # so that the file cannot take its name
    [partial] = [found for found in tmp_path.iterdir() if found != path]
    assert str(partial) in caplog.text
    with FileSource(partial) as source:
        assert len(list(source)) == 60


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_kill_leaves_a_file_that_plays(tmp_path: Path, suffix: str) -> None:
    code = f"""
import os, signal
import numpy as np
from fractions import Fraction
from pathlib import Path
from segkit.video import Frame, SegmentedFrame, VideoFileSink, VideoInfo

rate = Fraction(10)
info = VideoInfo(height=120, width=160, rate=rate, time_base=1 / rate)
sink = VideoFileSink(Path({str(tmp_path / "out")!r} + "{suffix}"), info)
noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
for index in range(100):
    picture = np.roll(noise, index, axis=1)
    sink.write(SegmentedFrame(Frame(picture, index, index / rate), picture[..., 0], picture))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    [partial] = tmp_path.iterdir()
    with FileSource(partial) as source:
        frames = list(source)
    assert len(frames) > 20
    assert [frame.time for frame in frames] == [Fraction(i, 10) for i in range(len(frames))]


def test_no_frame_makes_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with VideoFileSink(tmp_path / "out.mp4", info()):
        pass
    assert "no frame came" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_the_first_frame_written_is_at_time_zero(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoFileSink(path, info()) as sink:
        for index in range(100, 110, 2):
            sink.write(segmented(index, plain((9, 9, 9))))
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([2 * index / float(RATE) for index in range(5)])


def test_two_frames_of_one_instant_are_both_written(tmp_path: Path) -> None:
    path = tmp_path / "out.mkv"
    with VideoFileSink(path, info(time_base=Fraction(1, 1000))) as sink:
        for index, time in enumerate([Fraction(0), Fraction(1, 50), Fraction(20001, 1000000)]):
            sink.write(segmented(index, plain((9, 9, 9)), time))
    with FileSource(path) as source:
        assert [frame.time for frame in source] == [0, Fraction(1, 50), Fraction(21, 1000)]


def test_pictures_of_another_size_are_fitted_into_the_first_ones(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoFileSink(path, info(48, 64)) as sink:
        sink.write(segmented(0, plain((200, 10, 10), 48, 128)))  # side by side
        sink.write(segmented(1, plain((200, 10, 10), 48, 64)))
        sink.write(segmented(2, plain((200, 10, 10), 96, 128)))
    with FileSource(path) as source:
        wide, plain_, tall = (frame.image[..., 0] for frame in source)
    assert wide.shape == (48, 128)
    assert wide.min() > 150
    for fitted in (plain_, tall):
        assert fitted[:, 40:88].min() > 150
        assert fitted[:, :24].max() < 50
