"""Helpers: roll-outs on a site of tiny_versions.py, without any comparison."""

from __future__ import annotations

from collections.abc import Callable

from tiny_versions import Site

from segkit.errors import ExportError
from segkit.serving.rollout.control import ModelControl
from segkit.serving.rollout.history import History
from segkit.serving.rollout.place import Place
from segkit.serving.rollout.steps import Outcome, rollback, rollout
from segkit.serving.rollout.waiting import Waiting

UNDO = "segkit rollback"


class Checks:
    """Passes every version, unless told what to do after it has loaded."""

    def __init__(self, after: Callable[[], object] = lambda: None) -> None:
        self.after = after
        self.serving: list[int | None] = []

    def before_loading(self, serving: int | None) -> None:
        self.serving.append(serving)

    def after_loading(self, serving: int | None) -> None:
        self.serving.append(serving)
        self.after()


class Desk:
    """Rolls out on a site, and keeps what was said."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.lines: list[str] = []
        self.waiting = Waiting(
            load=30, seen=1, drain=0.05, back=0.2, look=0.02, say=self.lines.append
        )

    def place(self, control: ModelControl) -> Place:
        return Place(control, "segkit", config_file=self.site.config_file, say=self.lines.append)

    def rollout(self, version: int, checks: Checks | None = None, **wanted: bool) -> Outcome:
        with ModelControl(self.site.server.address) as control:
            return rollout(
                self.place(control),
                version,
                checks or Checks(),
                undo=UNDO,
                waiting=self.waiting,
                **wanted,
            )

    def rollback(self, to: int | None = None) -> Outcome:
        with ModelControl(self.site.server.address) as control:
            return rollback(self.place(control), to=to, undo=UNDO, waiting=self.waiting)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def history(self) -> History:
        path = self.site.config_file.with_name("models.config.rollouts.json")
        return History(path, "segkit")


def available(desk: Desk) -> list[int]:
    return sorted(number for number, state in desk.site.states.items() if state == "AVAILABLE")


def fail(problem: str = "it is no good") -> Checks:
    def refuse() -> None:
        raise ExportError(problem, next_step="make it better")

    return Checks(refuse)
