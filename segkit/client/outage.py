"""Outage: how long a server has been away, what is said of it, and when to try again."""

from __future__ import annotations

import logging
import random
import time

from segkit.errors import PredictionTimeout, ServerUnavailable
from segkit.video.frame import Frame

__all__ = ["Outage"]

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.1


class Outage:
    """Counts from the first failure to the next success.

    Args:
        most_s: Seconds that the server may be away.
        longest_backoff_s: Seconds between two tries at most.
    """

    def __init__(self, most_s: float, *, longest_backoff_s: float) -> None:
        self._most_s, self._longest_backoff_s = most_s, longest_backoff_s
        self._since: float | None = None
        self._backoff_s = FIRST_BACKOFF_S
        self.ended_at = float("-inf")  # the last one, in seconds of time.perf_counter()

    def failed(self, err: ServerUnavailable | PredictionTimeout, frame: Frame) -> float:
        """Notes a failure.

        Returns:
            Seconds to wait before the next try.

        Raises:
            ServerError: The server has been away for too long; of the kind of `err`.
        """
        now = time.perf_counter()
        if self._since is None:
            self._since = now
            logger.warning(
                "%s; it is waited for up to %g s, from frame %d on",
                err.problem,
                self._most_s,
                frame.index,
            )
        left_s = self._most_s - (now - self._since)
        if left_s <= 0:
            raise type(err)(
                f"{err.problem}; it stayed away for {self._most_s:g} s at frame {frame.index}",
                expected=err.expected,
                next_step=f"{err.next_step}; or wait longer with --max_outage",
            ) from err
        # Full jitter: the clients of one server must not all come back at one instant.
        pause_s = min(left_s, random.uniform(0, self._backoff_s))
        self._backoff_s = min(2 * self._backoff_s, self._longest_backoff_s)
        return pause_s

    def over(self) -> None:
        """Notes a success."""
        if self._since is None:
            return
        self.ended_at = time.perf_counter()
        logger.warning("it is back after %.1f s", self.ended_at - self._since)
        self._since, self._backoff_s = None, FIRST_BACKOFF_S
