"""When requests are due: cameras at a constant rate, or independent ones."""

from __future__ import annotations

import random
from itertools import count, takewhile

__all__ = ["constant_rate", "poisson"]


def constant_rate(cameras: int, fps: float, seconds: float, *, seed: int = 0) -> list[float]:
    """Cameras that each take a frame every 1/fps seconds, the first after a random part of it.

    Args:
        cameras: How many.
        fps: Of each.
        seconds: How long.
        seed: Of the phases.

    Returns:
        Seconds from the start, in order.
    """
    rng = random.Random(f"phases {seed}")
    phases = sorted(rng.random() for _ in range(cameras))
    # Divided, not added up: the last interval is as exact as the first.
    times = ((period + phase) / fps for period in count() for phase in phases)
    return list(takewhile(lambda time: time < seconds, times))


def poisson(rate: float, seconds: float, *, seed: int = 0) -> list[float]:
    """Requests of many who do not know of each other.

    Args:
        rate: Requests a second, on average.
        seconds: How long.
        seed: Of the gaps.

    Returns:
        Seconds from the start, in order.
    """
    rng = random.Random(f"gaps {seed}")
    times: list[float] = []
    time = rng.expovariate(rate)
    while time < seconds:
        times.append(time)
        time += rng.expovariate(rate)
    return times
