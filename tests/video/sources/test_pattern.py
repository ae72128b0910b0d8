"""The generated camera keeps its rate, and says which frame is which."""

from __future__ import annotations

import threading
import time
from fractions import Fraction

from segkit.video.sources import PatternSource
from segkit.video.time_pattern import clock_ms, read_pattern


def test_recorded_it_gives_every_frame_at_once() -> None:
    began = time.perf_counter()
    source = PatternSource((96, 160), live=False, num_frames=300)
    frames = list(source)
    assert time.perf_counter() - began < 5, "300 frames are 10 s in real time"
    assert [read_pattern(frame.image).frame_id for frame in frames] == list(range(300))  # type: ignore[union-attr]
    assert [frame.index for frame in frames] == list(range(300))
    assert frames[-1].time == Fraction(299, 30)
    assert (source.info.live, source.info.num_frames) == (False, 300)


def test_live_it_keeps_its_rate() -> None:
    source = PatternSource((96, 160), rate=Fraction(50), num_frames=50)
    assert source.info.live
    began = time.perf_counter()
    frames = list(source)
    assert 0.97 < time.perf_counter() - began < 1.2
    for frame in frames:
        pattern = read_pattern(frame.image)
        assert pattern is not None
        assert pattern.frame_id == frame.index
        assert pattern.clock_ms == clock_ms(frame.captured)
        assert abs(frame.captured - frames[0].captured - frame.index / 50) < 1e-3


def test_live_frames_that_nobody_takes_are_gone() -> None:
    source = PatternSource((96, 160), rate=Fraction(100))
    frames = iter(source)
    assert next(frames).index == 0
    time.sleep(0.2)
    late = next(frames)
    assert 1 <= late.index <= 20
    newest = next(frames)
    assert newest.index >= 20
    assert time.perf_counter() - newest.captured < 0.1
    source.close()


def test_the_shapes_move() -> None:
    first, *_, last = PatternSource((120, 160), live=False, num_frames=20)
    assert (first.image[40:] != last.image[40:]).mean() > 0.02


def test_closing_ends_it_from_another_thread() -> None:
    source = PatternSource((96, 160), rate=Fraction(1, 60))
    timer = threading.Timer(0.1, source.close)
    timer.start()
    began = time.perf_counter()
    assert len(list(source)) == 1
    assert time.perf_counter() - began < 5
    timer.join()
