"""The time that a load generator goes by; tests have one of their own."""

from __future__ import annotations

import threading
import time
from typing import Protocol

__all__ = ["Clock", "WallClock"]


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
        return event.wait(max(0.0, until - self.now()))
