"""Iterables run ahead in threads of their own, joined by bounded queues."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

__all__ = ["Background", "wait_awake"]

T = TypeVar("T")
WAKE_SECONDS = 0.25


def wait_awake(condition: threading.Condition, fulfilled: Callable[[], object]) -> None:
    """Waits under a condition that is held, without end, and still sees a Ctrl-C.

    One wait without end would not see it where another thread was told of it.
    """
    while not condition.wait_for(fulfilled, WAKE_SECONDS):
        pass


class Background(Generic[T]):
    """Runs an iterable in a thread and gives its items, in order. A context manager.

    An item is taken from the iterable only when there is room, and keeps its room until the next
    one is asked for: never more than `depth` items exist. What the iterable raises is raised
    where its items are taken. Leaving the context stops the thread after the item it is at.

    Args:
        items: The iterable; no other thread may use it.
        name: Name of the thread.
        depth: How many items may exist at the same time, 1 or more.
    """

    def __init__(self, items: Iterable[T], *, name: str, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"depth is {depth}, not 1 or more")
        self._items = items
        self._depth = depth
        self._ready: deque[T] = deque()
        self._change = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __iter__(self) -> Iterator[T]:
        """The items; may be iterated once."""
        while True:
            with self._change:
                wait_awake(self._change, lambda: self._ready or self._ended or self._stopped)
                if self._stopped:
                    return
                if not self._ready:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._ready[0]
            yield item
            del item
            with self._change:
                self._ready.popleft()
                self._change.notify_all()

    def __enter__(self) -> Background[T]:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """Lets both ends go: the thread takes no further item, and no further item is given."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def _run(self) -> None:
        iterator = iter(self._items)
        try:
            while self._wait_for_room():
                item = next(iterator)
                with self._change:
                    self._ready.append(item)
                    self._change.notify_all()
                del item
        except StopIteration:
            pass
        except BaseException as err:  # whatever it is, the thread that takes the items raises it
            self._error = err
        with self._change:
            self._ended = True
            self._change.notify_all()

    def _wait_for_room(self) -> bool:
        with self._change:
            self._change.wait_for(lambda: len(self._ready) < self._depth or self._stopped)
            return not self._stopped
