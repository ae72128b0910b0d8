"""The time that a load generator goes by; tests have one of their own."""

from __future__ import annotations

import threading
import time
from typing import Protocol

__all__ = ["SLICE_S", "Clock", "WallClock"]

# Ctrl-C that another thread happens to take wakes no wait of the main thread: it has to look up.
SLICE_S = 0.25


class Clock(Protocol):
    """Seconds from any moment on."""

    def now(self) -> float:
        """The time."""

    def wait(self, event: threading.Event, until: float) -> bool:
        """Blocks until a time, or until an event before it; whether the event is set."""


class WallClock:
    """Real time."""

    def now(self) -> float:
        """Seconds of time.perf_counter()."""
        return time.perf_counter()

    def wait(self, event: threading.Event, until: float) -> bool:
        """Blocks, see `Clock`."""
        while not event.wait(max(0.0, min(SLICE_S, until - self.now()))):
            if self.now() >= until:
                return False
        return True
