"""terminable(): SIGTERM ends a command as Ctrl-C does, cleanly."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["EXIT_TERMINATED", "terminable"]

EXIT_TERMINATED = 143


@contextmanager
def terminable() -> Iterator[None]:
    """Within it SIGTERM raises SystemExit, so that what was begun is ended or undone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(EXIT_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
