from __future__ import annotations

import pytest

from segkit.video.meters import KEPT, StageTimer, Summary, percentiles


def test_percentiles_are_measured_values() -> None:
    assert percentiles([float(i) for i in range(1, 101)]) == [51, 91, 100]
    assert percentiles([7.0]) == [7, 7, 7]


def test_mean_of_a_stage() -> None:
    timer = StageTimer()
    for seconds in (0.1, 0.3):
        timer.add("draw", seconds)
    timer.add("write", 0.01)
    assert timer.summary("draw").mean == pytest.approx(200)
    assert timer.summary("write").mean == pytest.approx(10)


def test_summary_of_a_stage() -> None:
    timer = StageTimer()
    for milliseconds in range(1, 101):
        timer.add("draw", milliseconds / 1e3)
    found = timer.summary("draw")
    assert (found.p50, found.p90, found.p99) == pytest.approx((51, 91, 100))


def test_a_stream_of_months_keeps_the_latest_passes_alone() -> None:
    timer = StageTimer()
    for milliseconds in range(2 * KEPT):
        timer.add("draw", milliseconds / 1e3)
    assert len(timer._seconds["draw"]) == KEPT
    assert timer.summary("draw").p50 > KEPT


def test_measured_items_are_the_same_items() -> None:
    timer = StageTimer()
    assert list(timer.measure_each(iter("abc"), "decode")) == ["a", "b", "c"]
    assert timer.summary("decode").mean >= 0
    assert len(timer._seconds["decode"]) == 3


def test_a_block_that_raises_is_not_counted() -> None:
    timer = StageTimer()
    with pytest.raises(OSError, match="full"), timer.measure("write"):
        raise OSError("full")
    assert timer.summary("draw") == Summary()
