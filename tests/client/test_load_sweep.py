"""The search for the largest number of cameras, and how figures are told: text and plots."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from virtual_server import VirtualClock, VirtualServer

from segkit.client.load import (
    COMPLETE,
    FAILED,
    INTERRUPTED,
    Figures,
    Plan,
    Sweep,
    constant_rate,
    open_loop,
    sweep,
)
from segkit.client.load.plot import plot_run, plot_sweep
from segkit.client.load.report import STEP_HEADER, conclusion, render, step_line

IMAGES = [np.zeros((6, 8, 3), np.uint8)]
NEVER = float("inf")


def figures(latencies_ms: list[float], **changes: Any) -> Figures:
    values: dict[str, Any] = {
        "load": "3 cameras at 30 fps",
        "ended": COMPLETE,
        "seconds": 10.0,
        "warmup_s": 2.0,
        "deadline_ms": 1e3 / 30,
        "requests": len(latencies_ms),
        "errors": {"NoAnswer": latencies_ms.count(NEVER)} if NEVER in latencies_ms else {},
        "latencies_ms": sorted(latencies_ms),
        "answered_fps": 90.0,
        "sent_bytes": 36_814.2,
        "received_bytes": 9_855.0,
        "cpu_ms": 1.234,
        "lateness_ms": {"p50": 0.05, "p99": 0.4, "max": 2.1},
    }
    return Figures(**values | changes)


HELD, MISSED = figures([20.0] * 100), figures([20.0] * 50 + [50.0] * 50)
LATE = figures([50.0] * 100, lateness_ms={"p50": 1.0, "p99": 30.0, "max": 90.0})


def search(outcome: Callable[[int, int], Figures], most: int = 1024) -> tuple[Sweep, list[int]]:
    tried: list[int] = []

    def measure(cameras: int, step: int) -> Figures:
        assert step == len(tried)
        tried.append(cameras)
        return outcome(cameras, step)

    return sweep(measure, most=most), tried


def test_doubling_then_bisection_then_verification() -> None:
    found, tried = search(lambda cameras, _: HELD if cameras <= 13 else MISSED)
    assert tried == [1, 2, 4, 8, 16, 12, 14, 13, 13]
    assert (found.cameras, found.limited_by) == (13, "server")
    assert [step.verifies for step in found.steps] == [False] * 8 + [True]


@pytest.mark.parametrize("capacity", [*range(20), 100, 999])
def test_every_capacity_is_found(capacity: int) -> None:
    found, _ = search(lambda cameras, _: HELD if cameras <= capacity else MISSED)
    assert (found.cameras, found.limited_by) == (capacity, "server")


def test_what_does_not_hold_again_was_luck() -> None:
    lucky = 8
    found, tried = search(
        lambda cameras, step: HELD if cameras <= 38 or (cameras <= 40 and step < lucky) else MISSED
    )
    assert tried[-2:] == [39, 38]
    assert (found.cameras, found.limited_by) == (38, "server")


def test_no_camera_at_all() -> None:
    found, tried = search(lambda cameras, _: MISSED)
    assert tried == [1]
    assert (found.cameras, found.limited_by) == (0, "server")
    assert (
        conclusion(found, fps=30) == "held: not a single camera at 30 fps with p99 within 33.33 ms"
    )


def test_the_search_ends_at_its_limit() -> None:
    found, tried = search(lambda cameras, _: HELD, most=5)
    assert tried == [1, 2, 4, 5, 5]
    assert (found.cameras, found.limited_by) == (5, "limit")
    assert "--max_cameras" in conclusion(found, fps=30)


def test_a_generator_that_is_late_is_not_the_servers_limit() -> None:
    found, _ = search(lambda cameras, _: HELD if cameras <= 6 else LATE)
    assert (found.cameras, found.limited_by) == (6, "client")
    assert "The server may hold more: this generator was late" in conclusion(found, fps=30)


def test_ctrl_c_keeps_the_steps_until_then() -> None:
    def outcome(cameras: int, step: int) -> Figures:
        if step == 3:
            raise KeyboardInterrupt
        return HELD

    found, tried = search(outcome)
    assert tried == [1, 2, 4, 8] and len(found.steps) == 3
    assert (found.cameras, found.limited_by) == (4, "interrupted")
    assert conclusion(found, fps=30).startswith("interrupted: 4 cameras at 30 fps were held")
    partly = figures([20.0] * 10, ended=INTERRUPTED)
    found, tried = search(lambda cameras, step: partly if step == 2 else HELD)
    assert tried == [1, 2, 4] and len(found.steps) == 3
    assert (found.cameras, found.limited_by) == (2, "interrupted")
    assert step_line(found.steps[2]).endswith("interrupted")


def test_a_server_of_3_ms_holds_what_a_queue_can() -> None:
    """11 cameras would be 99 % of it; where many are due at once, the last waits for all."""
    plan = Plan(seconds=10, warmup_s=1, stop_when_failed=True)

    def measure(cameras: int, step: int) -> Figures:
        clock = VirtualClock()
        server = VirtualServer(clock, lambda nth: 0.003)
        times = constant_rate(cameras, 30, plan.end, seed=step)
        return open_loop(server, IMAGES, times, plan, load="", clock=clock, senders=1)

    found = sweep(measure, most=100)
    assert found.cameras in (10, 11)
    assert found.limited_by == "server"
    assert {step.figures.ended for step in found.steps if step.cameras > 11} == {FAILED}
    record = found.to_json()
    assert record["cameras"] == found.cameras
    assert record["steps"][-1]["verifies"] and record["steps"][-1]["holds"]


def test_the_figures_of_a_run_in_words() -> None:
    text = render(figures([12.345] * 980 + [40.0] * 15 + [NEVER] * 5))
    assert text.splitlines() == [
        "3 cameras at 30 fps: 10 s measured, 2 s before not counted",
        "requests   1,000 due, 995 answered, 5 NoAnswer",
        "latency    p50 12.3   p90 12.3   p99 40   p99.9 never   max never ms, from when each was "
        "due",
        "missed     2.00%: later than 33.33 ms, refused, or never answered",
        "a second   100 due, 90 answered, 98 in time",
        "a frame    36,814 bytes up, 9,855 down, 1.23 ms of this process's CPU",
        "generator  late by p50 0.05   p99 0.4   max 2.1 ms",
    ]


def test_a_run_that_is_not_what_was_asked_for_says_so() -> None:
    assert "INVALID: the generator was later than 25% of the deadline" in render(LATE)
    cut = render(figures([1.0], ended=INTERRUPTED)).splitlines()
    assert cut[1] == "interrupted: the figures are of what was measured until then"
    nothing = render(figures([], ended=INTERRUPTED))
    assert nothing.splitlines()[-1] == "nothing was measured"


def test_steps_are_rows_of_one_table() -> None:
    outcomes = [HELD, figures([20.0] * 50 + [NEVER] * 50, ended=FAILED), LATE, HELD]
    found, _ = search(lambda cameras, step: outcomes[min(step, 2)] if cameras != 1 else HELD)
    rows = [step_line(step) for step in found.steps]
    assert rows[0].split() == ["1", "100", *["20"] * 5, "0.00%", "90", "held"]
    assert rows[1].split()[5:7] == ["never", "never"]
    assert rows[1].endswith("missed, stopped early, 50 NoAnswer")
    assert rows[-1].endswith("held again")
    assert step_line(search(lambda c, s: LATE)[0].steps[0]).endswith("the generator was late")
    assert STEP_HEADER.split()[:3] == ["cameras", "requests", "p50"]
    assert rows[0].index(" 100 ") + 4 == STEP_HEADER.index("requests") + len("requests")


@pytest.mark.parametrize(
    "latencies", [[12.0], [12.0] * 98 + [NEVER] * 2, [NEVER] * 9, list(range(1, 2000))]
)
def test_a_run_is_plotted(tmp_path: Path, latencies: list[float]) -> None:
    plot_run(tmp_path / "run.png", figures(latencies))
    picture = cv2.imread(str(tmp_path / "run.png"))
    assert picture.shape == (540, 960, 3) and picture.std() > 5


def test_a_sweep_is_plotted_with_what_was_never_answered(tmp_path: Path) -> None:
    gone = figures([NEVER] * 100)
    found, _ = search(lambda cameras, _: HELD if cameras <= 3 else MISSED if cameras < 5 else gone)
    plot_sweep(tmp_path / "sweep.png", found)
    picture = cv2.imread(str(tmp_path / "sweep.png"))
    assert picture.shape == (540, 960, 3) and picture.std() > 5


def test_only_a_plot_imports_matplotlib() -> None:
    code = (
        "import sys; import segkit.client.load.plot, segkit.client.load.report; "
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
