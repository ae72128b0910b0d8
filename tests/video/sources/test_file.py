"""FileSource gives every frame at its exact time, and says plainly what is no video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from segkit.errors import VideoError
from segkit.video import FileSource


def test_a_clip_gives_all_frames_at_their_exact_times(clip: Path) -> None:
    with FileSource(clip) as source:
        info = source.info
        frames = list(source)
    assert (info.height, info.width, info.rate) == (96, 160, Fraction(30000, 1001))
    assert info.num_frames == len(frames) == 30
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.time for frame in frames] == [i * Fraction(1001, 30000) for i in range(30)]
    assert frames[3].time_s == pytest.approx(0.1001)


def test_images_are_rgb_and_upright(clip: Path) -> None:
    with FileSource(clip) as source:
        image = list(source)[5].image
    assert image.dtype == np.uint8
    assert image.shape == (96, 160, 3)
    red, green, blue = image[45, 35].astype(int)  # inside the square that the clip moves
    assert red > 180
    assert green < 90
    assert blue < 90


def test_rotation_noted_beside_the_pixels_is_applied(clip: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.mp4"
    with av.open(str(clip)) as given, av.open(str(turned), "w") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        stream.set_display_rotation(90)
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    with FileSource(clip) as source:
        upright = next(iter(source)).image
    with FileSource(turned) as source:
        assert (source.info.height, source.info.width) == (160, 96)
        np.testing.assert_array_equal(next(iter(source)).image, np.rot90(upright))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"absent.mp4' does not exist"):
        FileSource(tmp_path / "absent.mp4")


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="is not a file"):
        FileSource(tmp_path)


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("these are notes, not frames\n" * 100)
    with pytest.raises(VideoError, match=r"notes.mp4' is not a video") as caught:
        FileSource(path)
    assert "H.264" in caught.value.expected
    assert "copied whole" in caught.value.next_step


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    with pytest.raises(VideoError, match="no video stream, only audio"):
        FileSource(path)


def index_first(clip: Path, path: Path) -> bytes:
    """The clip's bytes with the index before the frames, so that a cut leaves it whole."""
    options = {"movflags": "faststart"}
    with av.open(str(clip)) as given, av.open(str(path), "w", options=options) as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return path.read_bytes()


def test_a_video_without_frames_is_refused(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    whole = index_first(clip, path)
    path.write_bytes(whole[: whole.index(b"mdat") + 4])
    with pytest.raises(VideoError, match="no frame that can be decoded"):
        FileSource(path)


def test_a_truncated_file_gives_what_it_has_and_says_so(
    clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(index_first(clip, path)[:-60])
    with FileSource(path) as source:
        count = len(list(source))
    assert 0 < count < 30
    assert f"only {count} could be decoded" in caplog.text
