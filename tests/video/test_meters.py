from __future__ import annotations

import pytest

from segkit.video.meters import StageTimer, percentiles


def test_percentiles_are_measured_values() -> None:
    assert percentiles([float(i) for i in range(1, 101)]) == [51, 91, 100]
    assert percentiles([7.0]) == [7, 7, 7]


def test_mean_of_a_stage() -> None:
    timer = StageTimer()
    for seconds in (0.1, 0.3):
        timer.add("draw", seconds)
    timer.add("write", 0.01)
    assert timer.mean_ms() == pytest.approx({"draw": 200, "write": 10})


def test_measured_items_are_the_same_items() -> None:
    timer = StageTimer()
    assert list(timer.measure_each(iter("abc"), "decode")) == ["a", "b", "c"]
    assert timer.mean_ms()["decode"] >= 0
    assert timer._counts["decode"] == 3


def test_a_block_that_raises_is_not_counted() -> None:
    timer = StageTimer()
    with pytest.raises(OSError, match="full"), timer.measure("write"):
        raise OSError("full")
    assert timer.mean_ms() == {}
