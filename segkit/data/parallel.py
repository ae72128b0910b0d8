"""`map` on all cores, for work that lets other threads run: decoding, OpenCV, files."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

__all__ = ["in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    stop: Event | None = None,
) -> Generator[Result, None, None]:
    """The results in the order of the items, no more of them in memory than keeps all busy.

    What has not begun when the caller stops, or is interrupted, never begins.

    Args:
        function: Called from several threads.
        items: What to call it with.
        workers: Number of threads. None: one a core.
        stop: Set when the caller stops; a function that takes long may look at it.
    """
    workers = workers or os.cpu_count() or 1
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            if stop is not None:
                stop.set()
            for future in waiting:
                future.cancel()
