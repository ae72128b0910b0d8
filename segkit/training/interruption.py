"""Ctrl-C and SIGTERM in the middle of a training: it ends after the step, with everything saved."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interruption", "interruptible"]

logger = logging.getLogger(__name__)


class Interruption:
    """Whether this process was asked to stop.

    Args:
        signal: The signal that did, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt  # asked twice: at once
        self.signal = signal.Signals(number)
        logger.warning("%s: stopping after this step (again: at once)", self.signal.name)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within it, the first SIGINT or SIGTERM is only noted; the second raises KeyboardInterrupt.

    Only the main thread hears signals; in another one nothing changes.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, interruption._ask)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
