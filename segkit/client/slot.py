"""Slot: a hand-over with room for one, where the newest wins."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from segkit.client.background import wait_awake

__all__ = ["Slot"]

T = TypeVar("T")


class Slot(Generic[T]):
    """One thread puts, another takes. Closing lets both go."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> T | None:
        """Puts an item; never waits.

        Returns:
            The one that was there, which nobody will take now, if there was one.
        """
        with self._changed:
            replaced, self._item = self._item, item
            self._changed.notify_all()
            return replaced

    def take(self) -> T | None:
        """The item, once there is one; None once the slot is closed and empty."""
        with self._changed:
            wait_awake(self._changed, lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return item

    @property
    def is_full(self) -> bool:
        """Whether there is an item."""
        return self._item is not None

    def close(self) -> None:
        """Says that no item will follow."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
