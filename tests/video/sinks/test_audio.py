"""Sound is copied packet by packet, stays where the frames have it, or is said to be absent."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from segkit.errors import VideoError
from segkit.video import FileSource, SegmentedFrame, VideoFileSink

FPS, SECONDS = 25, 4


def make_beeps(path: Path, codec: str = "aac", rate: int = 48000) -> Path:
    """A clip that flashes white and beeps in the first tenth of every second."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream(codec, rate=rate)
        audio.layout = "mono"
        t = np.arange(rate * SECONDS) / rate
        sound = np.where(t % 1 < 0.1, 0.8 * np.sin(2 * np.pi * 1000 * t), 0)
        for index in range(FPS * SECONDS):
            image = np.full((48, 64, 3), 255 if index % FPS < 3 else 0, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            part = sound[index * rate // FPS : (index + 1) * rate // FPS]
            samples = (part * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = index * rate // FPS
            container.mux(audio.encode(frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


@pytest.fixture(scope="module")
def beeps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_beeps(tmp_path_factory.mktemp("beeps") / "beeps.mp4")


def copy(source: Path, path: Path, keep: Callable[[int], bool] = lambda index: True) -> None:
    with FileSource(source) as frames, VideoFileSink(path, frames.info, audio=source) as sink:
        for frame in frames:
            if keep(frame.index):
                sink.write(SegmentedFrame(frame, frame.image[..., 0], frame.image))


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.pts is not None]


def begins(times: list[float]) -> list[float]:
    """The first time of every run of times."""
    return [now for before, now in zip([-1.0, *times], times, strict=False) if now - before > 0.3]


def flashes(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return begins([f.time for f in frames if f.to_ndarray(format="gray").mean() > 128])


def beeping(path: Path) -> list[float]:
    loud: list[float] = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono")
        for decoded in container.decode(audio=0):
            for frame in resampler.resample(decoded):
                samples = np.abs(frame.to_ndarray().ravel())
                loud += (decoded.time + np.flatnonzero(samples > 0.3) / frame.rate).tolist()
    return begins(loud)


def ends(path: Path) -> tuple[float, float]:
    """Where the pictures and where the sound ends, in seconds."""
    with av.open(str(path)) as container:
        last: dict[str, float] = {}
        for packet in container.demux():
            if packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                last[packet.stream.type] = max(end, last.get(packet.stream.type, 0.0))
    return last["video"], last["audio"]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_sound_is_copied_as_it_is(beeps: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    copy(beeps, path)
    given, written = packets(beeps), packets(path)
    assert written == given[-len(written) :]
    assert len(given) - len(written) <= 1  # the encoder's lead-in before time 0
    assert flashes(path) == pytest.approx([0, 1, 2, 3], abs=0.001)
    assert beeping(path) == pytest.approx([0, 1, 2, 3], abs=0.015)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("stride", [1, 2])
def test_sound_stays_with_the_frames_that_are_kept(
    beeps: Path, tmp_path: Path, suffix: str, stride: int
) -> None:
    path = tmp_path / f"out{suffix}"
    copy(beeps, path, lambda index: 29 <= index < 89 and (index - 29) % stride == 0)
    # Frame 29 is the output's time 0, so the second that begins at frame 50 begins at 0.84 s.
    assert flashes(path) == pytest.approx([0.84, 1.84], abs=0.05)
    assert beeping(path) == pytest.approx([0.84, 1.84], abs=0.003)
    pictures, sound = ends(path)
    assert sound == pytest.approx(pictures, abs=0.05)


@pytest.mark.parametrize("first", [0, 29])
def test_sound_that_the_container_does_not_take_is_encoded_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: int
) -> None:
    source = make_beeps(tmp_path / "beeps.mov", "pcm_mulaw", 8000)
    path = tmp_path / "out.mp4"
    copy(source, path, lambda index: index >= first)
    assert "pcm_mulaw, which 'mp4' files do not take: it is encoded as AAC" in caplog.text
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    assert beeping(path) == pytest.approx(flashes(path), abs=0.02)


def test_a_source_without_sound_is_said_once(
    clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "out.mp4"
    copy(clip, path)
    assert caplog.text.count("has no sound to copy") == 1
    with FileSource(path) as source:
        assert len(list(source)) == 30


def test_a_file_whose_sound_cannot_be_read_is_named(clip: Path, tmp_path: Path) -> None:
    with FileSource(clip) as source, pytest.raises(VideoError, match="absent.mp4") as caught:
        VideoFileSink(tmp_path / "out.mp4", source.info, audio=tmp_path / "absent.mp4")
    assert "--audio" in caught.value.next_step
    assert list(tmp_path.iterdir()) == []
