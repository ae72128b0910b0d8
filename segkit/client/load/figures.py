"""Figures: what one run of the load generator measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segkit.video.meters import percentiles

__all__ = ["COMPLETE", "FAILED", "INTERRUPTED", "NOT_SENT", "NO_ANSWER", "Attempt", "Figures"]

# How a run ended.
COMPLETE = "complete"
FAILED = "stopped early, when its p99 could only be too late"
INTERRUPTED = "interrupted"

# Failures that no server names.
NO_ANSWER = "NoAnswer"  # until the end of the run
NOT_SENT = "NotSent"  # too many were under way: the generator protects itself

POINTS: Mapping[str, float] = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}
LATE_POINTS: Mapping[str, float] = {"p50": 50, "p99": 99, "max": 100}
# A generator later than this share of the deadline, at p99, measures itself.
LATE_SHARE = 0.25


@dataclass(slots=True)
class Attempt:
    """A request; times are seconds since the run began.

    Args:
        due: When it should be sent: its latency counts from here.
        started: When the generator came to it.
        finished: When its answer came.
        failure: The kind of failure, if it failed.
        sent_bytes: Of the request.
        received_bytes: Of the reply.
    """

    due: float
    started: float
    finished: float = math.inf
    failure: str = ""
    sent_bytes: int = 0
    received_bytes: int = 0

    @property
    def latency_s(self) -> float:
        """From when it was due to its answer; infinite if there is none."""
        return math.inf if self.failure else self.finished - self.due


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one run measured, without its warm-up.

    A request without an answer counts as one that takes for ever: percentiles are of all requests
    that were due, and infinite where the answers do not reach.

    Args:
        load: What was asked for, in words.
        ended: COMPLETE, FAILED or INTERRUPTED.
        seconds: How long was measured.
        warmup_s: How long was not, before.
        deadline_ms: What an answer may take.
        requests: That were due.
        errors: Kind of failure -> requests.
        latencies_ms: Of each request, sorted; infinite where it failed.
        answered_fps: Answers that came in a second.
        sent_bytes: Of a request, on average.
        received_bytes: Of a reply, on average.
        cpu_ms: That this process took for a request.
        lateness_ms: Key of LATE_POINTS -> how late the generator came to its requests.
    """

    load: str
    ended: str
    seconds: float
    warmup_s: float
    deadline_ms: float
    requests: int
    errors: Mapping[str, int]
    latencies_ms: Sequence[float]
    answered_fps: float
    sent_bytes: float
    received_bytes: float
    cpu_ms: float
    lateness_ms: Mapping[str, float]

    @property
    def latency_ms(self) -> Mapping[str, float]:
        """Key of POINTS -> milliseconds; empty if there was no request."""
        return _points(self.latencies_ms, POINTS)

    @property
    def missed(self) -> int:
        """Requests answered after the deadline, refused, or never answered."""
        return sum(latency > self.deadline_ms for latency in self.latencies_ms)

    @property
    def missed_share(self) -> float:
        """The same, of all requests."""
        return self.missed / self.requests if self.requests else 0.0

    @property
    def offered_fps(self) -> float:
        """Requests due in a second."""
        return self.requests / self.seconds if self.seconds > 0 else 0.0

    @property
    def goodput_fps(self) -> float:
        """Requests answered within the deadline, in a second."""
        return self.offered_fps * (1 - self.missed_share)

    @property
    def valid(self) -> bool:
        """Whether the generator kept its schedule; else these are figures of the client."""
        return self.lateness_ms.get("p99", 0.0) <= LATE_SHARE * self.deadline_ms

    @property
    def holds(self) -> bool:
        """Whether the server held this load: p99 within the deadline, in a run to its end."""
        if self.ended != COMPLETE or not self.valid or not self.requests:
            return False
        return self.latency_ms["p99"] <= self.deadline_ms

    def to_json(self) -> dict[str, Any]:
        """What json.dumps takes: all but the single latencies. None stands for no answer."""
        return {
            "load": self.load,
            "ended": self.ended,
            "valid": self.valid,
            "holds": self.holds,
            "seconds": self.seconds,
            "warmup_s": self.warmup_s,
            "deadline_ms": self.deadline_ms,
            "requests": self.requests,
            "errors": dict(self.errors),
            "latency_ms": {
                name: ms if math.isfinite(ms) else None for name, ms in self.latency_ms.items()
            },
            "missed": self.missed,
            "missed_share": self.missed_share,
            "offered_fps": self.offered_fps,
            "answered_fps": self.answered_fps,
            "goodput_fps": self.goodput_fps,
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "cpu_ms": self.cpu_ms,
            "lateness_ms": dict(self.lateness_ms),
        }

    @classmethod
    def of(
        cls,
        attempts: Sequence[Attempt],
        *,
        load: str,
        ended: str,
        begin: float,
        end: float,
        deadline_s: float,
        cpu_s: float,
    ) -> Figures:
        """Reads the figures off the requests that were due in a span of time.

        Args:
            attempts: All of the run.
            load: See the class, as `ended`.
            ended: A run cut short knows nothing yet of what is younger than the deadline.
            begin: Seconds since the run began; what was before is warm-up.
            end: Seconds since the run began.
            deadline_s: What an answer may take.
            cpu_s: That the process took from `begin` on.
        """
        seconds = max(0.0, end - begin)
        known_until = end if ended == COMPLETE else end - deadline_s
        measured = [
            attempt
            for attempt in attempts
            if begin <= attempt.due < end
            and (attempt.due <= known_until or attempt.failure or attempt.finished < math.inf)
        ]
        answered = [attempt for attempt in measured if attempt.latency_s < math.inf]
        came = sum(not attempt.failure and begin <= attempt.finished < end for attempt in attempts)
        return cls(
            load=load,
            ended=ended,
            seconds=seconds,
            warmup_s=begin,
            deadline_ms=1e3 * deadline_s,
            requests=len(measured),
            errors=Counter(
                attempt.failure or NO_ANSWER
                for attempt in measured
                if attempt.latency_s == math.inf
            ),
            latencies_ms=sorted(1e3 * attempt.latency_s for attempt in measured),
            answered_fps=came / seconds if seconds else 0.0,
            sent_bytes=_mean([attempt.sent_bytes for attempt in answered]),
            received_bytes=_mean([attempt.received_bytes for attempt in answered]),
            cpu_ms=1e3 * cpu_s / len(measured) if measured else 0.0,
            lateness_ms=_points(
                [1e3 * (attempt.started - attempt.due) for attempt in measured], LATE_POINTS
            ),
        )


def _points(values: Sequence[float], points: Mapping[str, float]) -> dict[str, float]:
    if not values:
        return {}
    return dict(zip(points, percentiles(values, list(points.values())), strict=True))


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0
