"""A recording begun in its middle gives the same frames as one that is read from its start."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import pytest
from pattern_videos import write_pattern_video

from segkit.video import FileSource
from segkit.video.time_pattern import read_pattern

OPEN_GROUPS = {"x264-params": "open-gop=1:bframes=5:b-pyramid=normal"}


def read(path: Path, start: Fraction = Fraction(0)) -> list[tuple[int, Fraction, int]]:
    with FileSource(path, start=start) as source:
        rows = []
        for frame in source:
            pattern = read_pattern(frame.image)
            assert pattern is not None
            rows.append((frame.index, frame.time, pattern.frame_id))
    return rows


CASES = [
    (suffix, options, uneven)
    for suffix in (".mp4", ".mkv", ".ts", ".avi", ".flv")
    for options in ({}, OPEN_GROUPS)
    for uneven in (False, True)
    if not (uneven and suffix == ".avi")  # which has frames at an even rate only
]


@pytest.mark.parametrize(("suffix", "options", "uneven"), CASES)
def test_every_start_is_exact(
    suffix: str, options: dict[str, str], uneven: bool, tmp_path: Path
) -> None:
    rng = random.Random(4)
    times = [sum(rng.randint(5, 90) for _ in range(i)) for i in range(110)] if uneven else None
    times = sorted(set(times)) if times else None
    count = len(times) if times else 110
    path = write_pattern_video(tmp_path / f"clip{suffix}", count, options=options, times_ms=times)
    whole = read(path)
    assert [number for _, _, number in whole] == [index for index, _, _ in whole]
    assert len(whole) == count
    last = whole[-1][1]
    starts = [Fraction(rng.randint(1, 1000), 1000) * last for _ in range(3)]
    starts += [rng.choice(whole)[1] for _ in range(2)] + [last]
    for start in starts:
        assert read(path, start) == [row for row in whole if row[1] >= start]


def test_a_start_after_the_end_gives_nothing(clip: Path) -> None:
    with FileSource(clip, start=Fraction(100)) as source:
        assert source.info.width == 160
        assert list(source) == []


def test_what_lies_before_the_start_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 300 frames the last 5: no more than the last group is decoded."""
    path = write_pattern_video(tmp_path / "clip.mp4", 300)
    decoded = 0
    original = FileSource._decode

    def count(self: FileSource, packets: object) -> object:
        nonlocal decoded
        for frame in original(self, packets):  # type: ignore[arg-type]
            decoded += 1
            yield frame

    monkeypatch.setattr(FileSource, "_decode", count)
    assert [row[0] for row in read(path, Fraction(295, 30))] == list(range(295, 300))
    assert decoded <= 1 + 25
