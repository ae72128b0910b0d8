"""Items pass in order, bounded, and both ends always have a way out."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from segkit.client.background import Background


def test_items_come_in_order() -> None:
    with Background(iter(range(100)), name="numbers", depth=3) as numbers:
        assert list(numbers) == list(range(100))


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_no_more_than_depth_items_exist(depth: int) -> None:
    made = 0
    caught_up = threading.Semaphore(0)

    def items() -> Iterator[int]:
        nonlocal made
        for index in range(20):
            made += 1
            caught_up.release()
            yield index

    with Background(items(), name="items", depth=depth) as ahead:
        for taken in ahead:
            while caught_up.acquire(timeout=0.01):
                pass
            assert made <= taken + depth


def test_what_was_made_before_an_error_still_comes() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("the disk is gone")

    taken = []
    with Background(items(), name="items", depth=5) as ahead:  # noqa: SIM117
        with pytest.raises(OSError, match="the disk is gone"):
            for item in ahead:
                taken.append(item)
    assert taken == [0, 1, 2]


def test_leaving_early_stops_the_thread() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 1

    with Background(endless(), name="endless", depth=2) as ahead:
        next(iter(ahead))
        assert "endless" in {thread.name for thread in threading.enumerate()}
    assert "endless" not in {thread.name for thread in threading.enumerate()}


def test_stopping_lets_a_waiting_taker_go() -> None:
    release = threading.Event()

    def slow() -> Iterator[int]:
        release.wait(20)
        yield 1

    with Background(slow(), name="slow", depth=1) as ahead:
        threading.Timer(0.05, ahead.stop).start()
        assert list(ahead) == []
        release.set()


def test_a_depth_of_zero_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        Background([], name="nothing", depth=0)
