"""The largest number of cameras that a server holds: doubling, bisection, verification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from segkit.client.load.figures import INTERRUPTED, Figures

__all__ = ["CLIENT", "LARGEST", "SERVER", "STOPPED", "Step", "Sweep", "sweep"]

# What kept the number from being larger.
SERVER = "server"
CLIENT = "client"  # the generator could not keep its schedule
LARGEST = "limit"  # of the search
STOPPED = "interrupted"


@dataclass(frozen=True)
class Step:
    """A run of a sweep.

    Args:
        cameras: How many.
        figures: What it measured.
        verifies: Whether it verifies what the search has found.
    """

    cameras: int
    figures: Figures
    verifies: bool = False


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep found.

    Args:
        steps: In the order they ran.
        cameras: The largest number that was held, and held again; 0 if none was. Of an interrupted
            sweep: the largest that was held.
        limited_by: SERVER, CLIENT, LARGEST or STOPPED.
    """

    steps: tuple[Step, ...]
    cameras: int
    limited_by: str

    def to_json(self) -> dict[str, Any]:
        """What json.dumps takes."""
        return {
            "cameras": self.cameras,
            "limited_by": self.limited_by,
            "steps": [
                {"cameras": step.cameras, "verifies": step.verifies, **step.figures.to_json()}
                for step in self.steps
            ],
        }


def sweep(
    measure: Callable[[int, int], Figures],
    *,
    most: int,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Sweep:
    """Finds the largest number of cameras that are held. One more is not, or was not this time.

    What is found is measured once more, because the largest of many runs is also the luckiest; if
    it does not hold again, a twentieth less is tried, and so on.

    Ctrl-C ends it, with the steps until then.

    Args:
        measure: Runs so many cameras; also gets the number of the step, a seed for their phases.
        most: Cameras to try at most.
        on_step: Told of every step.
    """
    steps: list[Step] = []

    def holds(cameras: int, *, verifies: bool = False) -> bool:
        step = Step(cameras, measure(cameras, len(steps)), verifies)
        steps.append(step)
        on_step(step)
        if step.figures.ended == INTERRUPTED:
            raise KeyboardInterrupt
        return step.figures.holds

    try:
        held = _search(holds, most)
        while held and not holds(held, verifies=True):
            held -= max(1, held // 20)
    except KeyboardInterrupt:
        held = max((step.cameras for step in steps if step.figures.holds), default=0)
        return Sweep(steps=tuple(steps), cameras=held, limited_by=STOPPED)
    return Sweep(steps=tuple(steps), cameras=held, limited_by=_limit(steps, held))


def _search(holds: Callable[[int], bool], most: int) -> int:
    held, failed, next_ = 0, most + 1, 1
    while failed > most and held < most:
        if holds(next_):
            held, next_ = next_, min(most, 2 * next_)
        else:
            failed = next_
    while failed - held > 1:
        middle = (held + failed) // 2
        if holds(middle):
            held = middle
        else:
            failed = middle
    return held


def _limit(steps: list[Step], held: int) -> str:
    above = [step for step in steps if not step.figures.holds and step.cameras >= held]
    if not above:
        return LARGEST
    nearest = min(step.cameras for step in above)
    invalid = all(not step.figures.valid for step in above if step.cameras == nearest)
    return CLIENT if invalid else SERVER
