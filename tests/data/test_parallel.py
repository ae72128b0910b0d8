from __future__ import annotations

import threading
import time

import pytest

from segkit.data.parallel import in_order


@pytest.mark.parametrize("workers", [1, 3, None])
def test_results_come_in_the_order_of_the_items(workers: int | None) -> None:
    def slow_when_small(number: int) -> int:
        time.sleep(0.002 * (10 - number % 10))
        return number * number

    assert list(in_order(slow_when_small, range(30), workers=workers)) == [x * x for x in range(30)]


def test_several_are_under_way_at_once() -> None:
    barrier = threading.Barrier(3, timeout=10)
    assert list(in_order(lambda x: barrier.wait() >= 0, range(3), workers=3)) == [True] * 3


def test_no_more_is_begun_than_keeps_the_workers_busy() -> None:
    taken: list[int] = []

    def items() -> range:
        for number in range(100):
            taken.append(number)
            yield number  # type: ignore[misc]

    results = in_order(str, items(), workers=2)
    assert next(results) == "0"
    assert len(taken) <= 9


def test_an_error_comes_through_and_the_rest_never_begins() -> None:
    begun: list[int] = []

    def fail_at_2(number: int) -> int:
        begun.append(number)
        if number == 2:
            raise KeyError(number)
        return number

    with pytest.raises(KeyError):
        list(in_order(fail_at_2, range(1000), workers=2))
    assert len(begun) < 20


def test_closing_it_tells_what_is_under_way_to_stop() -> None:
    stop = threading.Event()
    results = in_order(lambda x: x == 0 or stop.wait(10), range(8), workers=2, stop=stop)
    assert next(results)
    results.close()
    assert stop.is_set()
