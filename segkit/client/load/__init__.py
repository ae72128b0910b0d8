"""An open-loop load generator: what a model server does when cameras do not wait for it."""

from __future__ import annotations

from segkit.client.load.arrivals import constant_rate, poisson
from segkit.client.load.clock import Clock, WallClock
from segkit.client.load.figures import COMPLETE, FAILED, INTERRUPTED, Figures
from segkit.client.load.generator import Plan, closed_loop, open_loop
from segkit.client.load.sweep import Step, Sweep, sweep

__all__ = [
    "COMPLETE",
    "FAILED",
    "INTERRUPTED",
    "Clock",
    "Figures",
    "Plan",
    "Step",
    "Sweep",
    "WallClock",
    "closed_loop",
    "constant_rate",
    "open_loop",
    "poisson",
    "sweep",
]
