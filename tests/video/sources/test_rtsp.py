"""RTSP as cameras speak it, from a server that tells what was sent when."""

from __future__ import annotations

import logging
import re
import threading
import time
import traceback
from collections.abc import Callable
from itertools import pairwise
from time import perf_counter

import pytest
from rtsp_server import RtspServer

from segkit.errors import VideoError
from segkit.video.frame import Frame
from segkit.video.sources import NetworkSource, Patience, open_source
from segkit.video.time_pattern import read_pattern

QUICK = Patience(open=5, stall=1, outage=20)


def watch(
    source: NetworkSource, seconds: float, *acts: tuple[float, Callable[[], object]]
) -> list[Frame]:
    """Reads for some seconds; does each act when its time has come."""
    timers = [threading.Timer(after, act) for after, act in acts]
    timers.append(threading.Timer(seconds, source.close))
    for timer in timers:
        timer.start()
    frames = list(source)
    for timer in timers:
        timer.join()
    return frames


def age_ms(frame: Frame) -> int:
    """From the drawing of the frame until now."""
    pattern = read_pattern(frame.image)
    assert pattern is not None
    return pattern.age_ms()


def test_frames_arrive_whole_in_order_and_one_frame_late() -> None:
    with RtspServer() as server, open_source(server.url, patience=QUICK) as source:
        info = source.info
        assert (info.height, info.width, info.rate, info.live) == (96, 160, 30, True)
        ages, rows = [], []
        for frame in source:
            pattern = read_pattern(frame.image)
            assert pattern is not None
            rows.append((frame.index, pattern.frame_id, frame.time))
            ages.append(pattern.age_ms())
            if frame.index >= 60:
                break
    for (index, number, _), (next_index, next_number, _) in pairwise(rows):
        assert next_index - index == next_number - number > 0
    assert len(rows) > 40
    assert sorted(ages)[len(ages) // 4] < 150, "33 ms: the next frame tells that one is whole"


def test_it_begins_at_once_though_it_joins_between_keyframes() -> None:
    """The keyframe that comes first is shown, not thrown away: no second one is waited for."""
    with RtspServer(keyframes=45, joins_at=30) as server:
        began = perf_counter()
        with NetworkSource(server.url, patience=QUICK):
            assert perf_counter() - began < 1.8, "15 frames to the first keyframe, 60 to the next"


def test_a_stall_a_disconnect_and_an_outage_are_lived_through(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RtspServer(user="viewer", password="geheim", keyframes=10) as server:
        source = NetworkSource(server.url, patience=QUICK)
        frames = watch(
            source,
            11,
            (1, server.stall),
            (3, server.resume),
            (5.5, server.hang_up),
            (7, server.go_away),
            (8, server.listen),
        )
        assert source.restarts == 3
        assert server.sessions >= 4
    assert all(after.index > before.index for before, after in pairwise(frames))
    assert all(after.time > before.time for before, after in pairwise(frames))
    numbers = [pattern.frame_id for frame in frames if (pattern := read_pattern(frame.image))]
    assert len(numbers) == len(frames)
    assert all(after > before for before, after in pairwise(numbers))
    assert frames[-1].captured - frames[0].captured > 9
    assert float(frames[-1].time) == pytest.approx(frames[-1].captured - frames[0].captured, abs=2)
    assert "geheim" not in caplog.text
    assert "viewer:***@" in caplog.text
    assert re.search("opened again: no (frame|data) for", caplog.text)


def test_a_live_frame_is_new_however_slow_the_taker_is() -> None:
    with RtspServer() as server, NetworkSource(server.url, patience=QUICK) as source:
        ages = []
        for frame in source:
            ages.append(age_ms(frame))
            time.sleep(0.25)
            if len(ages) == 12:
                break
    assert max(ages[4:]) < 1000, "what is read one by one is 2.5 s old by now"
    assert frame.index > 60


def test_closing_ends_it_while_the_camera_is_silent() -> None:
    patience = Patience(open=5, stall=3, outage=20)
    with RtspServer() as server, NetworkSource(server.url, patience=patience) as source:
        began = perf_counter()
        watch(source, 1.0, (0.3, server.stall))
        assert perf_counter() - began < 2.5


@pytest.mark.parametrize("scheme", ["Digest", "Basic"])
def test_logins_are_given_and_refused(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RtspServer(user="viewer", password="geheim", scheme=scheme) as server:
        with NetworkSource(server.url, patience=QUICK) as source:
            assert next(iter(source)).image.shape == (96, 160, 3)
            assert "geheim" not in source.name
        began = perf_counter()
        for wrong in (
            server.url.replace("geheim", "falsch"),
            server.url.replace("viewer:geheim@", ""),
        ):
            with pytest.raises(VideoError, match="refuses the login .*401") as caught:
                NetworkSource(wrong, patience=QUICK)
            assert "%40" in caught.value.expected
            shown = "".join(traceback.format_exception(caught.value))
            assert "falsch" not in shown
        assert perf_counter() - began < 2
    assert "geheim" not in caplog.text


def test_a_camera_without_that_stream_is_said() -> None:
    with (
        RtspServer() as server,
        pytest.raises(VideoError, match=r"127.0.0.1:\d+ has no 'rtsp://.*/other' \(404"),
    ):
        NetworkSource(server.url.replace("/stream", "/other"), patience=QUICK)


def test_a_slow_start_is_waited_for_and_one_that_is_too_slow_is_not() -> None:
    with RtspServer(delay_s=1.2) as server:
        with NetworkSource(server.url, patience=QUICK) as source:
            assert next(iter(source)).index >= 0
        began = perf_counter()
        with pytest.raises(VideoError, match="within 0.5 s"):
            NetworkSource(server.url, patience=Patience(open=0.5))
        assert perf_counter() - began < 2


def test_told_that_it_is_not_live_every_frame_is_given() -> None:
    with RtspServer() as server, open_source(server.url, live=False, patience=QUICK) as source:
        assert not source.info.live
        numbers = []
        for frame in source:
            pattern = read_pattern(frame.image)
            assert pattern is not None
            numbers.append(pattern.frame_id)
            time.sleep(0.05)
            if len(numbers) == 40:
                break
    assert numbers == list(range(numbers[0], numbers[0] + 40))
