"""A selection takes the frames it was asked for and leaves them their index and time."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from segkit.errors import ConfigError, VideoError
from segkit.video.frame import Frame, VideoInfo
from segkit.video.sources import FileSource, OpenSource, Selection

BLANK = np.zeros((4, 4, 3), np.uint8)


class Timed(OpenSource):
    """Frames at the given times."""

    def __init__(self, times: list[Fraction], rate: int = 30, num_frames: int = 0) -> None:
        self.times, self.rate, self.num_frames = times, rate, num_frames
        self.given = 0
        self.closed = False

    @property
    def name(self) -> str:
        return "a list"

    @property
    def info(self) -> VideoInfo:
        rate = Fraction(self.rate)
        return VideoInfo(
            height=4, width=4, rate=rate, time_base=1 / rate, num_frames=self.num_frames
        )

    def __iter__(self) -> Iterator[Frame]:
        for index, time in enumerate(self.times):
            self.given += 1
            yield Frame(BLANK, index, time)

    def close(self) -> None:
        self.closed = True


def even(count: int, rate: int = 30) -> list[Fraction]:
    return [Fraction(index, rate) for index in range(count)]


def chosen(source: OpenSource, **how: object) -> list[int]:
    return [frame.index for frame in Selection(source, **how)]  # type: ignore[arg-type]


def test_stride_begins_with_the_first_frame_of_the_part() -> None:
    assert chosen(Timed(even(10)), stride=3) == [0, 3, 6, 9]
    assert chosen(Timed(even(10)), stride=3, start=Fraction(2, 30)) == [2, 5, 8]


def test_start_is_in_and_end_is_out() -> None:
    source = Timed(even(1000))
    part = chosen(source, start=Fraction(10, 30), end=Fraction(13, 30))
    assert part == [10, 11, 12]
    assert source.given == 14, "what comes after the end is not asked for"


def test_times_stay_those_of_the_source() -> None:
    times = even(10)
    frames = list(Selection(Timed(times), start=Fraction(1, 10), stride=2))
    assert [frame.time for frame in frames] == times[3::2]


@pytest.mark.parametrize(("rate", "fastest"), [(30, 10), (25, 10), (30, 29), (60, 7), (12, 5)])
def test_max_fps_is_met_and_evenly(rate: int, fastest: int) -> None:
    times = even(rate * 20, rate)
    frames = list(Selection(Timed(times, rate), max_fps=Fraction(fastest)))
    assert len(frames) == pytest.approx(20 * fastest, abs=1)
    steps = {after.index - before.index for before, after in pairwise(frames)}
    assert steps <= {rate // fastest, rate // fastest + 1}


def test_max_fps_of_a_slower_source_takes_all_though_they_jitter() -> None:
    rng = np.random.default_rng(0)
    times = [time + Fraction(int(rng.integers(0, 12)), 1000) for time in even(300)]
    assert chosen(Timed(times), max_fps=Fraction(30)) == list(range(300))
    assert chosen(Timed(times), max_fps=Fraction(60)) == list(range(300))


def test_max_fps_does_not_make_up_for_a_gap() -> None:
    times = [*even(30), *(time + 5 for time in even(30))]
    after = [i for i in chosen(Timed(times), max_fps=Fraction(10)) if i >= 30]
    assert after == [30, 33, 36, 39, 42, 45, 48, 51, 54, 57]


def test_info_has_the_rate_and_number_of_what_is_selected() -> None:
    info = Selection(Timed(even(300), num_frames=300), stride=3, start=Fraction(2)).info
    assert (info.rate, info.num_frames, info.time_base) == (10, 80, Fraction(1, 30))
    assert Selection(Timed([]), max_fps=Fraction(12), end=Fraction(9)).info.num_frames == 0
    info = Selection(Timed(even(300), num_frames=300), max_fps=Fraction(12), end=Fraction(4)).info
    assert (info.rate, info.num_frames) == (12, 48)


def test_a_file_that_is_sought_and_one_that_is_not_agree(clip: Path) -> None:
    start = Fraction(17, 100)
    with Selection(FileSource(clip, start=start), start=start, stride=2) as sought:
        assert sought.path == clip
        assert sought.name == str(clip)
        some = [(frame.index, frame.time) for frame in sought]
    with Selection(FileSource(clip), start=start, stride=2) as read:
        assert [(frame.index, frame.time) for frame in read] == some
    assert some[0][0] == 6


def test_closing_closes_the_source() -> None:
    source = Timed(even(3))
    with Selection(source):
        assert not source.closed
    assert source.closed


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"start": Fraction(-1)}, "--start is -1"),
        ({"start": Fraction(5), "end": Fraction(5)}, "--end is 5 and --start 5"),
        ({"stride": 0}, "--stride is 0"),
        ({"max_fps": Fraction(0)}, "--max_fps is 0"),
    ],
)
def test_values_out_of_range_are_refused(how: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Selection(Timed([]), **how)  # type: ignore[arg-type]


def test_a_start_behind_the_end_of_the_source_is_said() -> None:
    with pytest.raises(VideoError, match="'a list' has no frame from 2 s on"):
        list(Selection(Timed(even(30)), start=Fraction(2)))
