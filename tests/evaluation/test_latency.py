from __future__ import annotations

import pytest

from segkit.engines.cpu import cpu_name
from segkit.evaluation import latency
from segkit.evaluation.latency import WARM_UP, measure_latency, tensorflow_device


def test_ways_take_turns_and_warm_runs_alone_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    runs: list[str] = []

    def way(name: str, seconds: float) -> None:
        nonlocal clock
        cold = runs.count(name) < WARM_UP
        runs.append(name)
        clock += 100 if cold else seconds * runs.count(name)

    monkeypatch.setattr(latency.time, "perf_counter", lambda: clock)
    slow, quick = measure_latency(
        {"slow": lambda: way("slow", 0.002), "quick": lambda: way("quick", 0.001)},
        repeats=10,
        batch_size=4,
        devices={"slow": "a", "quick": "b"},
    )
    assert runs == ["slow", "quick"] * (WARM_UP + 10)
    assert (slow.engine, slow.device, slow.batch_size, slow.repeats) == ("slow", "a", 4, 10)
    # Runs 6 to 15 took as many milliseconds.
    assert [quick.p50_ms, quick.p90_ms, quick.p99_ms] == pytest.approx([11, 15, 15])
    assert slow.p50_ms == pytest.approx(22)


def test_the_device_has_a_name_and_its_cores() -> None:
    assert cpu_name().endswith("cores") and len(cpu_name()) > len(", 1 cores")
    assert tensorflow_device()
