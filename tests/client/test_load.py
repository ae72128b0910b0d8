"""The load generator in virtual time, where every figure is known, and briefly in real time."""

from __future__ import annotations

import json
import signal
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from simulated_server import SimulatedSegmenter
from virtual_server import VirtualClock, VirtualServer

from segkit.client import Answer, RemoteSegmenter
from segkit.client.load import (
    COMPLETE,
    FAILED,
    INTERRUPTED,
    Figures,
    Plan,
    WallClock,
    closed_loop,
    constant_rate,
    open_loop,
    poisson,
)
from segkit.client.load.clock import SLICE_S
from segkit.errors import (
    ModelNotFound,
    PredictionTimeout,
    ServerOverloaded,
    ServerUnavailable,
)

IMAGES = [np.zeros((6, 8, 3), np.uint8)]
PLAN = Plan(seconds=10, warmup_s=2)


def cameras(
    clock: VirtualClock, server: VirtualServer, count: int = 1, plan: Plan = PLAN
) -> Figures:
    """Cameras at 30 fps, by a generator of one thread: virtual time has only one."""
    times = constant_rate(count, 30, plan.end)
    return open_loop(server, IMAGES, times, plan, load="cameras", clock=clock, senders=1)


def test_a_camera_keeps_its_interval_exactly() -> None:
    times = constant_rate(3, 30, 600, seed=4)
    assert times == sorted(times)
    assert len(times) in range(3 * 18_000 - 3, 3 * 18_000 + 4)
    phases = times[:3]
    assert len(set(phases)) == 3 and max(phases) < 1 / 30
    for camera, phase in enumerate(phases):
        own = np.array(times[camera::3])
        np.testing.assert_allclose(own - phase, np.arange(len(own)) / 30, atol=1e-9)
    assert constant_rate(3, 30, 1, seed=5)[:3] != phases
    assert constant_rate(3, 30, 1, seed=4)[:3] == phases


def test_poisson_has_its_rate_and_its_spread() -> None:
    times = poisson(50, 400, seed=1)
    gaps = np.diff(times)
    assert times == sorted(times) and times[-1] < 400
    assert np.mean(gaps) == pytest.approx(1 / 50, rel=0.03)
    assert np.std(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert poisson(50, 400, seed=2) != times


def test_a_server_that_keeps_up_is_measured_exactly() -> None:
    clock = VirtualClock()
    figures = cameras(clock, VirtualServer(clock, lambda nth: 0.010))
    assert figures.ended == COMPLETE and figures.valid and figures.holds
    assert figures.requests == 300 and not figures.errors and figures.missed == 0
    assert list(figures.latency_ms) == ["p50", "p90", "p99", "p99.9", "max"]
    assert all(ms == pytest.approx(10) for ms in figures.latency_ms.values())
    assert figures.offered_fps == pytest.approx(30)
    assert figures.goodput_fps == pytest.approx(30)
    assert figures.answered_fps == pytest.approx(30, abs=0.2)
    assert (figures.sent_bytes, figures.received_bytes) == (1000, 200)
    assert figures.cpu_ms > 0
    assert figures.lateness_ms == pytest.approx({"p50": 0, "p99": 0, "max": 0}, abs=1e-6)


def test_what_a_stall_held_up_is_in_the_figures() -> None:
    """A closed loop leaves out what it could not send meanwhile: coordinated omission."""
    stall = 1.0

    def service_s(nth: int) -> float:
        return stall if nth == 100 else 0.002

    clock = VirtualClock()
    figures = cameras(clock, VirtualServer(clock, service_s))
    assert figures.missed == pytest.approx(30, abs=3)
    assert figures.latency_ms["max"] == pytest.approx(1000, abs=5)
    clock = VirtualClock()
    closed = closed_loop(VirtualServer(clock, service_s), IMAGES, 1, PLAN, clock=clock)
    assert closed.missed <= 1


def test_a_server_that_is_too_slow_is_never_waited_for_and_nothing_is_forgotten() -> None:
    clock = VirtualClock()
    server = VirtualServer(clock, lambda nth: 0.05)
    figures = cameras(clock, server, 1, replace(PLAN, max_outstanding=16, timeout_s=60))
    assert server.most_under_way == 16
    assert figures.requests == 300
    assert figures.errors["NotSent"] == pytest.approx(100, abs=5)
    assert figures.missed == 300 and figures.goodput_fps == 0
    assert figures.answered_fps == pytest.approx(20, abs=0.2)
    assert figures.latency_ms["p50"] == pytest.approx(16 * 50, abs=51)
    assert figures.latency_ms["p90"] == float("inf")
    assert not figures.holds
    assert json.loads(json.dumps(figures.to_json()))["latency_ms"]["p90"] is None


def test_latency_counts_from_when_a_request_was_due() -> None:
    """A generator that cannot keep up is no excuse for good figures, and it says so."""
    clock = VirtualClock()
    figures = cameras(clock, VirtualServer(clock, lambda nth: 0.0, encode_s=0.04))
    assert figures.latency_ms["max"] > 1000
    assert figures.lateness_ms["p99"] > 1000
    assert not figures.valid and not figures.holds


def test_failures_are_counted_by_kind() -> None:
    def fail(nth: int) -> Exception | None:
        if nth % 10 == 5:
            return ServerOverloaded("full")
        return ServerUnavailable("gone") if nth % 100 == 1 else None

    clock = VirtualClock()
    figures = cameras(clock, VirtualServer(clock, lambda nth: 0.001, fail=fail))
    assert figures.errors == {"ServerOverloaded": 30, "ServerUnavailable": 3}
    assert figures.missed == 33 and figures.missed_share == pytest.approx(0.11)
    assert figures.latency_ms["p50"] == pytest.approx(1)
    assert figures.latency_ms["p90"] == float("inf")


def test_what_is_never_answered_is_counted() -> None:
    clock = VirtualClock()
    server = VirtualServer(clock, lambda nth: 0.001 if nth < 200 else float("inf"))
    figures = cameras(clock, server)
    answered = 200 - 1 - 60  # without the first and the warm-up
    assert figures.errors == {"NoAnswer": 300 - answered}
    assert figures.ended == COMPLETE


def test_the_warm_up_is_not_counted() -> None:
    clock = VirtualClock()
    figures = cameras(clock, VirtualServer(clock, lambda nth: 0.2 if nth < 6 else 0.001))
    assert figures.latency_ms["max"] == pytest.approx(1)
    assert figures.warmup_s == 2


def test_a_run_that_can_only_fail_ends_early() -> None:
    clock = VirtualClock()
    server = VirtualServer(clock, lambda nth: 0.04 if nth > 100 else 0.001)
    figures = cameras(clock, server, 1, replace(PLAN, stop_when_failed=True))
    assert figures.ended == FAILED and not figures.holds
    assert server.requests <= 101 + 6  # 2 of 300 may be late; the third to be known ends it
    clock = VirtualClock()
    server = VirtualServer(clock, lambda nth: 0.04 if nth in (100, 200) else 0.001)
    figures = cameras(clock, server, 1, replace(PLAN, stop_when_failed=True))
    assert figures.ended == COMPLETE and figures.missed == 2 and figures.holds


def test_ctrl_c_leaves_the_figures_until_then() -> None:
    clock = VirtualClock(interrupt_at=7.01)
    server = VirtualServer(clock, lambda nth: 0.001 if nth < 190 else float("inf"))
    figures = cameras(clock, server)
    assert figures.ended == INTERRUPTED and not figures.holds
    assert figures.seconds == pytest.approx(5, abs=0.02)
    # What is younger than the deadline may still be answered: it is no failure.
    assert figures.requests in (149, 150)
    assert figures.errors == {"NoAnswer": figures.requests - (190 - 1 - 60)}


def test_a_first_request_that_fails_ends_it_before_it_begins() -> None:
    clock = VirtualClock()
    server = VirtualServer(clock, lambda nth: 0.0, fail=lambda nth: ModelNotFound("no such model"))
    with pytest.raises(ModelNotFound, match="no such model"):
        cameras(clock, server)
    assert server.requests == 1
    silent = VirtualServer(clock, lambda nth: float("inf"))
    with pytest.raises(PredictionTimeout, match="first request was not answered in 60 s"):
        cameras(clock, silent)


@pytest.mark.parametrize("concurrency", [1, 0])
def test_a_bug_of_the_segmenter_is_raised(concurrency: int) -> None:
    clock = VirtualClock()
    server = VirtualServer(
        clock, lambda nth: 0.0, fail=lambda nth: ZeroDivisionError("ours") if nth == 9 else None
    )
    with pytest.raises(ZeroDivisionError, match="ours"):
        if concurrency:
            closed_loop(server, IMAGES, concurrency, PLAN, clock=clock)
        else:
            cameras(clock, server)


def test_what_submit_raises_is_a_failure_or_a_bug() -> None:
    class Raising(VirtualServer):
        error: Exception = ServerUnavailable("no way there")

        def submit(self, image: np.ndarray, *, timeout_s: float | None = None) -> Future[Answer]:
            if self.requests > 200:
                raise self.error
            return super().submit(image, timeout_s=timeout_s)

    clock = VirtualClock()
    figures = cameras(clock, Raising(clock, lambda nth: 0.001))
    assert figures.errors == {"ServerUnavailable": 300 - 140}
    server = Raising(clock, lambda nth: 0.001)
    server.error = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError, match="ours"):
        cameras(clock, server)


def test_a_closed_loop_sends_the_next_when_the_last_is_answered() -> None:
    clock = VirtualClock()
    server = VirtualServer(clock, lambda nth: 0.010)
    figures = closed_loop(server, IMAGES, 1, PLAN, clock=clock)
    assert server.most_under_way == 1
    assert figures.requests == pytest.approx(1000, abs=2)
    assert figures.answered_fps == pytest.approx(100, abs=0.2)
    assert figures.latency_ms["p99"] == pytest.approx(10)


def test_a_closed_loop_does_not_storm_a_server_that_refuses() -> None:
    clock = VirtualClock()
    server = VirtualServer(
        clock, lambda nth: 0.0, fail=lambda nth: ServerOverloaded("full") if nth else None
    )
    figures = closed_loop(server, IMAGES, 1, PLAN, clock=clock)
    assert figures.errors["ServerOverloaded"] == figures.requests == pytest.approx(100, abs=2)


def test_a_closed_loop_keeps_so_many_under_way() -> None:
    with SimulatedSegmenter(0.002) as segmenter:
        figures = closed_loop(segmenter, IMAGES, 4, Plan(seconds=0.5, warmup_s=0.1))
    assert segmenter.most_under_way == 4
    assert figures.requests > 0 and not figures.errors


def test_in_real_time_all_that_was_due_is_accounted_for() -> None:
    plan = Plan(seconds=1, warmup_s=0.2, timeout_s=30)
    with SimulatedSegmenter(0.002, rtt_s=0.01) as segmenter:
        times = constant_rate(3, 20, plan.end)
        figures = open_loop(segmenter, IMAGES, times, plan, load="3 cameras")
    assert figures.requests == sum(due >= 0.2 for due in times)
    assert not figures.errors
    assert 12 <= figures.latency_ms["p50"] < 30_000


def test_real_time_is_waited_for_in_slices() -> None:
    """Longer than one slice, so that Ctrl-C is never kept waiting; an event ends it at once."""
    clock, event = WallClock(), threading.Event()
    begin = clock.now()
    assert not clock.wait(event, begin + 2.5 * SLICE_S)
    assert clock.now() - begin >= 2.5 * SLICE_S
    event.set()
    assert clock.wait(event, clock.now() + 3600)
    assert clock.wait(event, begin)
    event.clear()
    assert not clock.wait(event, begin)


def test_ctrl_c_that_another_thread_takes_ends_a_run() -> None:
    """The system chooses the thread that a signal goes to; it wakes no wait of the main thread."""

    class Interrupting(VirtualServer):
        def submit(self, image: np.ndarray, *, timeout_s: float | None = None) -> Future[Answer]:
            if self.requests == 3:
                time.sleep(0.5)  # the main thread has begun to wait
                signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            return super().submit(image, timeout_s=timeout_s)

    class Patient(VirtualClock):
        """Then lets the run wait until Ctrl-C has arrived."""

        server: VirtualServer
        woken = threading.Event()

        def wait(self, event: threading.Event, until: float) -> bool:
            if self.server.requests <= 3:
                return super().wait(event, until)
            if event.wait(20):
                self.woken.set()
            return True

    clock = Patient()
    clock.server = Interrupting(clock, lambda nth: 0.0)
    assert cameras(clock, clock.server).ended == INTERRUPTED
    assert clock.woken.wait(10)


def test_bytes_are_those_that_travel(fake_server: Any) -> None:
    plan = Plan(seconds=1, warmup_s=0, timeout_s=30)
    image = np.zeros((64, 96, 3), np.uint8)
    with RemoteSegmenter(fake_server.address) as segmenter:
        figures = open_loop(
            segmenter, [image], constant_rate(1, 10, plan.end), plan, load="one camera"
        )
    assert not figures.errors
    assert image.nbytes < figures.sent_bytes < image.nbytes + 300
    assert image.nbytes / 3 < figures.received_bytes < image.nbytes / 3 + 300
