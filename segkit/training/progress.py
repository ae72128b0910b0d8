"""What a training says on the terminal while it goes on."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Literal, TextIO, get_args

from segkit.training.fit import Plan
from segkit.training.state import Standing

__all__ = ["PROGRESS", "Progress", "ProgressName"]

ProgressName = Literal["auto", "bar", "lines", "none"]
PROGRESS: tuple[str, ...] = get_args(ProgressName)

_REDRAWN_S = 0.1
_BAR = 20  # characters


class Progress:
    """Prints the lines of epochs, and on a terminal a line within the epoch that is drawn anew.

    Args:
        name: "bar": both; "lines": a line an epoch; "none": neither, but what is said; "auto": a
            bar where `stream` is a terminal, lines elsewhere.
        stream: Standard output if None.
    """

    def __init__(self, name: ProgressName = "auto", *, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        if name == "auto":
            name = "bar" if self._stream.isatty() else "lines"
        self._name = name
        self._drawn = 0.0
        self._width = 0

    def say(self, text: str) -> None:
        """Prints lines whatever the name."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def epoch(self, line: str) -> None:
        """Prints the line of an epoch."""
        if self._name == "none":
            self._clear()
        else:
            self.say(line)

    def step(self, plan: Plan, standing: Standing) -> None:
        """Draws how far the epoch is; too soon after the last time it does nothing."""
        now = time.monotonic()
        done, steps = len(standing.losses), plan.steps_per_epoch
        if self._name != "bar" or not done or now - self._drawn < _REDRAWN_S:
            return
        self._drawn = now
        full = _BAR * done // steps
        rate = done * plan.global_batch_size / standing.seconds
        left = round((steps - done) * standing.seconds / done)
        text = (
            f"epoch {(standing.step - done) // steps + 1}/{plan.epochs}  [{'=' * full:<{_BAR}}] "
            f"{done}/{steps}  loss {sum(standing.losses) / done:.3g}  {rate:.3g} img/s  "
            f"data {standing.waited / standing.seconds:.0%}  {left // 60}:{left % 60:02}"
        )
        # A line that wraps could not be drawn over.
        most = shutil.get_terminal_size().columns - 1
        text = text[:most]
        self._stream.write(f"\r{text:<{min(self._width, most)}}")
        self._stream.flush()
        self._width = len(text)

    def close(self) -> None:
        """Clears the line within the epoch, for what an error writes."""
        self._clear()
        self._stream.flush()

    def _clear(self) -> None:
        if self._width:
            self._stream.write(f"\r{'':<{self._width}}\r")
            self._width = 0
