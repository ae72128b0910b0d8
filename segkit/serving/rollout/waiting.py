"""Waiting for the versions of a model: until one is available, until others are gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass

from segkit.errors import ExportError
from segkit.serving.rollout.control import ModelControl
from segkit.serving.versions import State, VersionStatus

__all__ = ["Waiting", "describe"]

REASONS = {
    State.START: "waits to be loaded",
    State.LOADING: "loads and warms up",
    State.UNLOADING: "finishes its requests",
    State.END: "is not loaded",
}


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """How long to be patient, seconds, and whom to tell.

    Args:
        load: For a version to become available.
        seen: For the server to begin with it: more than its --file_system_poll_wait_seconds.
        unload: For a version to be gone.
        drain: From the moving of a label until its former version may be unloaded: requests that
            asked for the label were on their way to it.
        back: For a server that is away, to undo what was begun.
        look: Between two looks.
        repeat: Between two lines about what has not changed.
        say: Told what happens, a line each.
    """

    load: float = 900.0
    seen: float = 15.0
    unload: float = 30.0
    drain: float = 1.0
    back: float = 20.0
    look: float = 0.2
    repeat: float = 10.0
    say: Callable[[str], None] = lambda line: None

    def until_available(
        self, control: ModelControl, model: str, version: int, *, stale: VersionStatus | None
    ) -> None:
        """Blocks until a version takes requests.

        Args:
            control: The server.
            model: The model's name.
            version: The version.
            stale: What the server said of it before it was asked to load it: what an earlier try
                ended with is listed until the next one begins.

        Raises:
            ExportError: It cannot be loaded, or takes too long.
            ServerError: The server cannot be asked.
        """
        for seconds, status in self._watch(control, model, version):
            if status is not None and status.state is State.AVAILABLE:
                return
            is_new = seconds > self.seen or describe(status) != describe(stale)
            if status is not None and status.error is not None and is_new:
                raise ExportError(
                    f"version {version} of '{model}' cannot be loaded: {status.error.message}",
                    expected="a version that loads and answers its warm-up records",
                    next_step="publish it again under the next number",
                )
            if seconds > self.seen and (status is None or status.state is State.END):
                raise ExportError(
                    f"the server does not load version {version} of '{model}': {describe(status)}",
                    expected="a folder of that number in the model's base path; a server that "
                    "looks there (--file_system_poll_wait_seconds above 0), and not at its "
                    "configuration file (no --model_config_file_poll_wait_seconds)",
                    next_step="publish it there, or mend how the server is started",
                )
            if seconds > self.load:
                raise ExportError(
                    f"version {version} of '{model}' is not available after {seconds:.0f} s: "
                    f"{describe(status)}",
                    expected="a version that loads within --load_timeout",
                    next_step="look at the log of the server, or allow more time",
                )

    def until_gone(self, control: ModelControl, model: str, versions: Set[int]) -> None:
        """Blocks until versions are unloaded, or have been waited for long enough."""
        for version in sorted(versions):
            for seconds, status in self._watch(control, model, version):
                if status is None or status.state is State.END or seconds > self.unload:
                    break

    def _watch(
        self, control: ModelControl, model: str, version: int
    ) -> Iterator[tuple[float, VersionStatus | None]]:
        """Seconds and the status, again and again; says it when it changes, and now and then."""
        said, when = "", 0.0
        start = time.monotonic()
        while True:
            status = control.statuses(model).get(version)
            seconds = time.monotonic() - start
            text = describe(status)
            if text != said or seconds - when > self.repeat:
                self.say(f"  version {version}: {text} ({seconds:.0f} s)")
                said, when = text, seconds
            yield seconds, status
            time.sleep(self.look)


def describe(status: VersionStatus | None) -> str:
    """A status in words: the state, and why."""
    if status is None:
        return "unknown to the server"
    reason = status.error.message if status.error is not None else REASONS.get(status.state)
    return f"{status.state.name}, {reason}" if reason else status.state.name
