"""A live source gives the newest frame, comes back by itself, and can always be closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from time import perf_counter

import numpy as np
import pytest

from segkit.errors import VideoError
from segkit.video.frame import Frame, VideoInfo
from segkit.video.sources.live import LiveSource, Patience
from segkit.video.sources.reader import Capture

QUICK = Patience(open=0.5, stall=0.2, outage=2)
Script = Callable[[], Iterator[Capture]]


class Scripted:
    """A connection that does what its script does."""

    def __init__(self, script: Script, size: tuple[int, int] = (4, 6)) -> None:
        self.script, self.size = script, size
        self.closed = threading.Event()

    @property
    def info(self) -> VideoInfo:
        return VideoInfo(
            height=self.size[0], width=self.size[1], rate=Fraction(100), time_base=UNIT
        )

    def captures(self) -> Iterator[Capture]:
        return self.script()

    def close(self) -> None:
        self.closed.set()


UNIT = Fraction(1, 1000)


class Camera(LiveSource):
    """Connects to one script after another; at their end nothing can be connected to."""

    def __init__(self, *scripts: Script | Scripted, patience: Patience = QUICK) -> None:
        self.scripts = list(scripts)
        self.connections: list[Scripted] = []
        super().__init__(patience)

    @property
    def name(self) -> str:
        return "camera"

    def _connect(self) -> Scripted:
        if not self.scripts:
            raise VideoError("nothing listens there")
        script = self.scripts.pop(0)
        connection = script if isinstance(script, Scripted) else Scripted(script)
        self.connections.append(connection)
        return connection


def capture(value: int, said: Fraction | None = None, size: tuple[int, int] = (4, 6)) -> Capture:
    image = np.full((*size, 3), value, np.uint8)
    return Capture(image=lambda: image, captured=perf_counter(), time=said)


def frames(count: int, pause: float = 0.01, first: int = 0) -> Script:
    def script() -> Iterator[Capture]:
        for value in range(first, first + count):
            yield capture(value, Fraction(value, 100))
            time.sleep(pause)

    return script


def silent(after: int = 1) -> Script:
    """Some frames, then nothing, though the connection stands."""

    def script() -> Iterator[Capture]:
        yield from frames(after)()
        time.sleep(1)

    return script


def take(source: Camera, count: int) -> list[Frame]:
    taken = []
    for frame in source:
        taken.append(frame)
        if len(taken) == count:
            break
    return taken


def rises(values: list[Fraction] | list[int]) -> bool:
    return all(after > before for before, after in pairwise(values))


def test_frames_come_as_they_are() -> None:
    with Camera(frames(100)) as source:
        assert source.info.live
        assert (source.info.height, source.info.width, source.info.rate) == (4, 6, 100)
        taken = take(source, 20)
    assert [frame.image[0, 0, 0] for frame in taken] == [frame.index for frame in taken]
    assert [frame.time for frame in taken] == [Fraction(frame.index, 100) for frame in taken]


def test_a_slow_taker_gets_the_newest_and_gaps_tell_what_was_replaced() -> None:
    with Camera(frames(200, pause=0.005)) as source:
        taken = []
        for frame in source:
            assert perf_counter() - frame.captured < 0.05, "it waited somewhere"
            taken.append(frame)
            time.sleep(0.05)
            if len(taken) == 8:
                break
    assert [frame.image[0, 0, 0] for frame in taken] == [frame.index for frame in taken]
    assert taken[-1].index > 40


def test_what_is_replaced_is_never_converted() -> None:
    converted = []

    def script() -> Iterator[Capture]:
        for value in range(100):
            image = capture(value).image
            yield Capture(
                image=lambda value=value, image=image: converted.append(value) or image(),  # type: ignore[misc]
                captured=perf_counter(),
            )
        time.sleep(0.1)

    with Camera(script) as source:
        time.sleep(0.05)
        assert [frame.index for frame in take(source, 1)] == [99]
    assert converted == [99]


@pytest.mark.parametrize("end", [frames(5), silent(5)], ids=["ended", "stalled"])
def test_it_goes_on_after_a_restart(end: Script, caplog: pytest.LogCaptureFixture) -> None:
    with Camera(end, frames(5), frames(50, first=100)) as source:
        taken = take(source, 20)
        assert source.restarts == 2
    assert rises([frame.index for frame in taken])
    assert rises([frame.time for frame in taken])
    assert taken[-1].image[0, 0, 0] >= 100
    assert all(connection.closed.wait(2) for connection in source.connections)
    assert "camera is lost and will be opened again: " in caplog.text
    assert "camera is back after " in caplog.text


def test_times_go_on_as_our_clock_does_over_a_restart() -> None:
    def counting_from(epoch: int) -> Script:
        def script() -> Iterator[Capture]:
            for value in range(10):
                yield capture(value, epoch + Fraction(perf_counter()))
                time.sleep(0.01)

        return script

    with Camera(counting_from(0), counting_from(9000), counting_from(-9000)) as source:
        taken = take(source, 20)
        assert source.restarts >= 1
    for frame in taken:
        passed = frame.captured - taken[0].captured
        assert float(frame.time) == pytest.approx(passed, abs=0.05)


def test_a_clock_that_jumps_is_not_followed() -> None:
    def script() -> Iterator[Capture]:
        for value in range(40):
            yield capture(value, Fraction(value, 100) + (1000 if value >= 10 else 0))
            time.sleep(0.01)

    with Camera(script) as source:
        taken = take(source, 30)
    assert rises([frame.time for frame in taken])
    assert taken[-1].time < 2


@pytest.mark.parametrize(("ahead", "step_ms"), [(0.4, 40), (1, 36), (-0.4, 40), (-1, 44)])
def test_times_that_drift_from_our_clock_are_led_back(ahead: float, step_ms: int) -> None:
    last, now = capture(0, Fraction(0)), capture(0, Fraction(4, 100))
    with Camera(frames(5)) as source:
        assert source._step(last, now, Fraction(ahead)) == Fraction(step_ms, 1000)


def test_images_keep_their_size_where_the_camera_changes_it() -> None:
    def larger() -> Iterator[Capture]:
        for value in range(20):
            yield capture(value, size=(8, 12))
            time.sleep(0.01)

    with Camera(frames(3), Scripted(larger, (8, 12))) as source:
        shapes = {frame.image.shape for frame in take(source, 12)}
        assert source.restarts == 1
    assert shapes == {(4, 6, 3)}


def test_it_is_given_up_after_the_outage() -> None:
    began = perf_counter()
    source = Camera(frames(3), patience=Patience(open=0.5, stall=0.2, outage=0.5))
    with source, pytest.raises(VideoError, match="has been away for 0.5 s") as caught:
        list(source)
    assert "nothing listens there" in str(caught.value)
    assert "--max_outage" in caught.value.expected
    assert perf_counter() - began < 3


def test_pauses_grow_and_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    with Camera(*[frames(1)] * 10) as source:
        monkeypatch.setattr(source._closed, "wait", lambda s: bool(pauses.append(s)))
        with pytest.raises(VideoError, match="has been away"):
            source._patience = Patience(open=0.5, stall=0.2, outage=0.05)
            list(source)
    assert len(pauses) > 10
    for attempt, pause in enumerate(pauses):
        longest = min(5.0, 0.25 * 2**attempt)
        assert longest / 2 <= pause <= longest
    assert len({round(pause, 6) for pause in pauses[6:]}) > 3


def test_a_first_opening_that_fails_fails_at_once() -> None:
    began = perf_counter()
    with pytest.raises(VideoError, match="nothing listens there"):
        Camera()
    assert perf_counter() - began < 0.3


def test_no_first_frame_is_said() -> None:
    with pytest.raises(VideoError, match="camera sent no frame within 0.3 s"):
        Camera(silent(0), patience=Patience(open=0.3))


def test_a_bug_is_not_taken_for_an_outage() -> None:
    def script() -> Iterator[Capture]:
        yield capture(1)
        raise ZeroDivisionError("a bug")

    with Camera(script, frames(10)) as source, pytest.raises(ZeroDivisionError):
        list(source)


@pytest.mark.parametrize("state", ["stalled", "away", "connecting"])
def test_it_is_closed_from_another_thread_in_any_state(state: str) -> None:
    hanging = threading.Event()

    def hang() -> Iterator[Capture]:
        hanging.wait(5)
        yield capture(0)

    scripts = {"stalled": [silent(2)], "away": [frames(2)], "connecting": [frames(2), hang]}[state]
    source = Camera(*scripts, patience=Patience(open=60, stall=60, outage=60))
    ended = threading.Event()

    def iterate() -> None:
        for _ in source:
            pass
        ended.set()

    thread = threading.Thread(target=iterate)
    thread.start()
    time.sleep(0.8 if state == "connecting" else 0.2)
    assert not ended.is_set()
    began = perf_counter()
    source.close()
    assert ended.wait(1)
    assert perf_counter() - began < 2
    hanging.set()
    thread.join()


def test_a_reader_that_hangs_closes_its_connection_when_it_comes_back() -> None:
    hanging = threading.Event()

    def hang() -> Iterator[Capture]:
        yield capture(0)
        hanging.wait(10)
        yield capture(1)

    with Camera(hang, frames(30)) as source:
        assert len(take(source, 6)) == 6
        assert source.restarts == 1
        assert not source.connections[0].closed.is_set()
        hanging.set()
        assert source.connections[0].closed.wait(2)
