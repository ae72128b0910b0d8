"""Undoes the last roll-out: the label stable goes back, a canary is taken out.

The version gone back to is loaded again if need be, and clients go on being served.
"""

from __future__ import annotations

from dataclasses import dataclass

from segkit.commands.rollout_options import (
    PlaceOptions,
    open_place,
    outcome_record,
    say,
    write_report,
)
from segkit.errors import ConfigError

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(PlaceOptions):
    """Flags of the rollback."""

    to: int | None = None
    """the version to make stable; the one before the last roll-out by default"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.to is not None and self.to < 0:
            raise ConfigError(f"--to is {self.to}", expected="the number of a version")


def run(options: Options) -> None:
    """Rolls back, and says what serves."""
    from segkit.serving.rollout.steps import rollback

    with open_place(options) as place:
        outcome = rollback(place, to=options.to, undo=options.undo(), waiting=options.waiting)
    write_report(options, outcome_record(outcome))
    say(f"served now: {outcome.served}")
