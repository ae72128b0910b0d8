"""stream(): nothing lost, in order, and out of it from any state."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from segkit.client import Answer, RemoteSegmenter, stream
from segkit.errors import ContractMismatch, ServerUnavailable, VideoError
from segkit.video.frame import Frame, SegmentedFrame

STAGE_THREADS = {"decode", "send", "receive"}


def frames(count: int) -> Iterator[Frame]:
    """Frames whose pixels say their index, modulo 3."""
    for index in range(count):
        yield Frame(np.full((64, 96, 3), index % 3, np.uint8), index, Fraction(index, 25))


class Collector:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[SegmentedFrame] = []

    def write(self, segmented: SegmentedFrame) -> None:
        self.got.append(segmented)

    def check(self, count: int) -> None:
        assert [item.frame.index for item in self.got] == list(range(count))
        assert [int(item.mask[0, 0]) for item in self.got] == [i % 3 for i in range(count)]


class ScriptedSegmenter:
    """Answers by the image; `fail(nth request)` gives the error to answer with instead."""

    def __init__(self, fail: Any = lambda nth: None) -> None:
        self.fail = fail
        self.requests = 0

    def submit(self, image: np.ndarray, *, timeout_s: float | None = None) -> Future[Answer]:
        future: Future[Answer] = Future()
        error = self.fail(self.requests)
        self.requests += 1
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(Answer(image[..., 0]))
        return future

    def segment(self, images: np.ndarray) -> np.ndarray:
        return images[..., 0]

    def describe(self) -> Any:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    left = STAGE_THREADS & {thread.name for thread in threading.enumerate()}
    assert not left


def unavailable() -> ServerUnavailable:
    return ServerUnavailable("the server is away", expected="a server", next_step="start it")


def test_every_frame_comes_once_and_in_order_whatever_the_server_answers_first(
    fake_server: Any,
) -> None:
    rng = np.random.default_rng(2)

    def answer(context: Any, batch: np.ndarray) -> np.ndarray:
        time.sleep(rng.uniform(0, 0.02))
        return batch[..., 0]

    fake_server.answer = answer
    sink = Collector()
    with RemoteSegmenter(fake_server.address) as segmenter:
        report = stream(frames(60), segmenter, [sink], window=8)
    sink.check(60)
    assert report.frames == 60
    assert report.retries == 0
    assert 1 < fake_server.most_under_way <= 8


@pytest.mark.parametrize("window", [1, 3])
def test_no_more_requests_are_under_way_than_the_window(fake_server: Any, window: int) -> None:
    sink = Collector()
    with RemoteSegmenter(fake_server.address) as segmenter:
        stream(frames(20), segmenter, [sink], window=window)
    sink.check(20)
    assert fake_server.most_under_way <= window


def test_report_has_every_stage_and_ordered_percentiles(fake_server: Any) -> None:
    with RemoteSegmenter(fake_server.address) as segmenter:
        report = stream(frames(12), segmenter, [Collector()])
    assert list(report.stage_ms) == ["decode", "send", "server", "draw", "write"]
    for stage in (*report.stage_ms.values(), report.latency_ms, report.age_ms):
        assert 0 < stage.p50 <= stage.p90 <= stage.p99
        assert stage.mean > 0
    assert report.fps == pytest.approx(12 / report.seconds)


def test_masks_are_brought_to_the_frames_size_and_drawn() -> None:
    class Half(ScriptedSegmenter):
        def submit(self, image: np.ndarray, *, timeout_s: float | None = None) -> Future[Answer]:
            return super().submit(image[::2, ::2])

    sink = Collector()
    stream(frames(3), Half(), [sink], draw=lambda image, mask, _: image + mask[..., None] + 1)
    assert sink.got[2].mask.shape == (64, 96)
    assert (sink.got[2].picture == 2 + 2 + 1).all()
    assert (sink.got[2].frame.image == 2).all()


def test_an_empty_source_gives_an_empty_report() -> None:
    report = stream([], ScriptedSegmenter(), [Collector()])
    assert report.frames == 0


def test_a_server_that_goes_away_costs_no_frame() -> None:
    sink = Collector()
    away = ScriptedSegmenter(lambda nth: unavailable() if 5 <= nth < 12 else None)
    report = stream(frames(20), away, [sink], window=4)
    sink.check(20)
    assert report.retries == 7


def test_a_server_that_is_killed_and_comes_back_costs_no_frame(
    fake_server: Any, tiny_metadata: Any
) -> None:
    sink = Collector()
    started = []

    def on_frame(segmented: SegmentedFrame) -> None:
        if segmented.frame.index == 10:
            fake_server.stop()
            threading.Timer(
                0.7, lambda: started.append(type(fake_server)(tiny_metadata, fake_server.port))
            ).start()

    with RemoteSegmenter(fake_server.address) as segmenter:
        report = stream(frames(40), segmenter, [sink], on_frame=on_frame)
    started[0].stop()
    sink.check(40)
    assert report.retries > 0


def test_a_server_that_stays_away_ends_the_stream() -> None:
    away = ScriptedSegmenter(lambda nth: unavailable() if nth >= 5 else None)
    sink = Collector()
    with pytest.raises(ServerUnavailable, match=r"stayed away for 0.2 s at frame 5") as caught:
        stream(frames(20), away, [sink], max_outage_s=0.2)
    assert "--max_outage" in caught.value.next_step
    sink.check(5)


def test_an_error_that_time_does_not_mend_is_raised_at_once() -> None:
    broken = ScriptedSegmenter(lambda nth: ContractMismatch("bad model") if nth == 3 else None)
    with pytest.raises(ContractMismatch, match="bad model"):
        stream(frames(20), broken, [Collector()])
    assert broken.requests <= 3 + 1 + 8


def test_a_source_that_fails_gives_its_frames_and_then_its_error() -> None:
    def damaged() -> Iterator[Frame]:
        yield from frames(5)
        raise VideoError("damaged after frame 4")

    sink = Collector()
    with pytest.raises(VideoError, match="damaged"):
        stream(damaged(), ScriptedSegmenter(), [sink])
    sink.check(5)


def test_a_sink_that_fails_ends_an_endless_source() -> None:
    class Full(Collector):
        def write(self, segmented: SegmentedFrame) -> None:
            super().write(segmented)
            if len(self.got) == 4:
                raise VideoError("the disk is full")

    sink = Full()
    with pytest.raises(VideoError, match="disk is full"):
        stream(frames(10**9), ScriptedSegmenter(), [sink])
    sink.check(4)


def test_an_interrupt_ends_the_stream_although_the_server_hangs() -> None:
    class Hanging(ScriptedSegmenter):
        def submit(self, image: np.ndarray, *, timeout_s: float | None = None) -> Future[Answer]:
            return super().submit(image) if self.requests < 3 else Future()

    def interrupt(segmented: SegmentedFrame) -> None:
        if segmented.frame.index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream(frames(50), Hanging(), [Collector()], on_frame=interrupt)


def test_memory_is_bounded_however_slow_the_sink() -> None:
    read = 0

    def counted() -> Iterator[Frame]:
        nonlocal read
        for frame in frames(200):
            read += 1
            yield frame

    class Slow(Collector):
        def write(self, segmented: SegmentedFrame) -> None:
            time.sleep(0.002)
            assert read <= segmented.frame.index + 1 + 2 + 4 + 3
            super().write(segmented)

    sink = Slow()
    stream(counted(), ScriptedSegmenter(), [sink], window=4)
    sink.check(200)
