"""How many requests may be under way at the same time: a number, or what the round trips say.

Too few leave the server idle while requests travel, too many only wait in its queue and get old. No
fixed number is right: one suffices on the same machine, a dozen are needed across an ocean. The
rule is after TCP Vegas (Brakmo and Peterson, 1995). The shortest round trip is one without a queue,
so of W requests with a round trip of `rtt`, W * (1 - shortest / rtt) are in queues. Once in every
round of W replies the window grows by one, until too many wait; then it falls back so that none
does. So it meets the empty queue again and again, and the shortest round trip stays true.
"""

from __future__ import annotations

import threading

__all__ = ["LARGEST", "LIVE", "RECORDED", "AdaptiveWindow", "FixedWindow", "Window"]

LARGEST = 64
# Requests that may wait in the server's queue. Live, the newest frame matters: as good as none.
# Recorded, throughput does: the server never waits, and its batcher is fed.
LIVE, RECORDED = 0.7, 4.0
# The shortest round trip grows by that much a round, so that a longer route is learned.
DRIFT = 1.003
UNDERSHOOT = 0.05  # of the window, beyond what waits: more than the drift hides between two falls
AFTER_A_MISS = 0.7  # of the window is left


class FixedWindow:
    """A number of requests that was asked for.

    Args:
        size: 1 or more.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def replied(self, sent_s: float, replied_s: float, *, limited: bool) -> None:
        """Does nothing."""

    def missed(self, now_s: float) -> None:
        """Does nothing."""


class AdaptiveWindow:
    """Follows the round trips. Threads may use it at the same time.

    Args:
        most_waiting: Requests that may wait in the queue of a server.
        servers: How many servers share the requests.
    """

    def __init__(self, most_waiting: float, *, servers: int = 1) -> None:
        self._most_waiting = most_waiting * servers
        self._least = float(servers)
        self._size = self._least
        self._shortest_s = float("inf")
        self._starting = True  # doubling each round, until the first queue
        self._replies = 0  # of this round, and what they say:
        self._round_s = float("inf")
        self._limited = False
        self._fell_at = self._missed_at = float("-inf")
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Requests that may be under way now."""
        return round(self._size)

    def replied(self, sent_s: float, replied_s: float, *, limited: bool) -> None:
        """Learns from a reply.

        Args:
            sent_s: When the request was sent, in seconds of time.perf_counter().
            replied_s: When its reply came.
            limited: Whether a frame waited because the window was full. A window that nobody
                fills says nothing about what would happen if it were larger.
        """
        with self._lock:
            if sent_s < self._fell_at:
                return  # it tells of the queue that the window fell back from
            self._replies += 1
            # The shortest of a round: what jitter adds to the others is no queue.
            self._round_s = min(self._round_s, replied_s - sent_s)
            self._limited = self._limited or limited
            if self._replies >= self.size:
                self._end_round(self._round_s, replied_s, limited=self._limited)
                self._replies, self._round_s, self._limited = 0, float("inf"), False

    def missed(self, now_s: float) -> None:
        """Learns that a reply did not come in time, at most once a round trip.

        Args:
            now_s: Seconds of time.perf_counter().
        """
        with self._lock:
            if now_s - self._missed_at >= self._shortest_s or self._shortest_s == float("inf"):
                self._missed_at = self._fell_at = now_s
                self._starting = False
                self._size = max(self._least, AFTER_A_MISS * self._size)

    def _end_round(self, rtt_s: float, now_s: float, *, limited: bool) -> None:
        self._shortest_s = min(rtt_s, self._shortest_s * DRIFT)
        waiting = self._size * (1 - self._shortest_s / rtt_s) if rtt_s > 0 else 0.0
        if waiting > self._most_waiting:
            self._size -= waiting + UNDERSHOOT * self._size
            self._fell_at = now_s
        elif limited:
            self._size += self._size if self._starting and waiting < 0.5 else 1
        self._starting = self._starting and waiting < 0.5
        self._size = min(max(self._size, self._least), LARGEST)


Window = FixedWindow | AdaptiveWindow
