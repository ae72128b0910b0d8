"""Work: the steps that roll-outs and rollbacks are made of, and what is said where one fails."""

from __future__ import annotations

import time
from collections.abc import Iterator, Set
from contextlib import contextmanager

from segkit.errors import ConfigError, SegkitError, ServerError, ServerUnavailable
from segkit.serving.rollout.history import History, Record
from segkit.serving.rollout.place import Place, Serving
from segkit.serving.rollout.waiting import Waiting

__all__ = ["Work"]

AGAIN = "the same command again goes on"


class Work:
    """The steps, and what was found at the start.

    Args:
        place: Where.
        undo: The command that undoes it, for messages.
        waiting: How long to be patient.

    Raises:
        ConfigError: The file does not say what the server serves.
        ServerError: The server cannot be asked.
    """

    def __init__(self, place: Place, *, undo: str, waiting: Waiting) -> None:
        self.place, self.waiting, self._command = place, waiting, undo
        self.history = History(place.history_file, place.model)
        self.interrupted = self.history.under_way
        self.found = place.look()
        place.check_file(interrupted=self.interrupted is not None)

    def check_may_begin(self, version: int, *, canary: bool) -> None:
        """Refuses a roll-out on top of one that was interrupted, and a second canary."""
        other, label = self.interrupted, self.found.canary
        if other is not None and other.version != version:
            raise ConfigError(
                f"a {other.action} to version {other.version} was interrupted at {other.time}; "
                f"served now: {self.found}",
                expected="that one undone or done, before another",
                next_step=f"`{self._command}` undoes it; --version {other.version} goes on with it",
            )
        if canary and label not in (None, version):
            raise ConfigError(
                f"version {label} of '{self.place.model}' is the canary",
                expected="one canary at a time",
                next_step=f"`{self._command}` takes it back; --version {label} without --canary "
                "makes it stable",
            )

    @contextmanager
    def attempt(self, record: Record) -> Iterator[None]:
        """Has the server serve as before where anything is raised within, and says so."""
        self.history.begin(record)
        try:
            yield
        except BaseException as err:  # Ctrl-C too: the state is said before the program ends
            undone, sentence = self._undo(record.version)
            ways_out = f"`{self._command}` undoes it, {AGAIN}"
            if not isinstance(err, SegkitError):
                self.waiting.say(sentence if undone else f"{sentence}; {ways_out}")
                raise
            raise type(err)(
                f"{err.problem}; {sentence}",
                expected=err.expected,
                next_step=err.next_step if undone else ways_out,
            ) from err

    def load(self, version: int, base: Serving) -> Serving:
        """Adds a version to what is served and waits until it is available."""
        place, wanted = self.place, base.add(version)
        stale = place.control.statuses(place.model).get(version)
        if wanted != self.found:
            place.serve(wanted)
        if version not in self.found.versions:
            self.waiting.until_available(place.control, place.model, version, stale=stale)
        return wanted

    def move(self, wanted: Serving) -> None:
        """Moves labels, and has the file say so once the server does."""
        self.place.serve(wanted)
        labels = self.place.look().labels
        if labels != wanted.labels:
            raise ServerError(
                f"the server took the labels {dict(wanted.labels)}, but has {dict(labels)}",
                expected="a server that nobody else configures meanwhile (no "
                "--model_config_file_poll_wait_seconds)",
                next_step="mend how the server is started",
            )
        self.waiting.say(f"  {wanted}")
        self.place.write(wanted)

    def drop(self, served: Serving, versions: Set[int]) -> Serving:
        """Unloads versions that have no label, once nobody is on the way to them."""
        place, kept = self.place, served.remove(versions)
        if kept == served:
            return served
        sentence = f"the labels have moved ({served}), but not all of the rest is unloaded"
        try:
            time.sleep(self.waiting.drain)
            place.serve(kept)
            place.write(kept)
            self.waiting.until_gone(place.control, place.model, served.versions - kept.versions)
        except SegkitError as err:
            raise type(err)(
                f"{err.problem}; {sentence}", expected=err.expected, next_step=AGAIN
            ) from err
        except KeyboardInterrupt:
            self.waiting.say(f"{sentence}: {AGAIN}")
            raise
        return kept

    def complete(self) -> None:
        """Writes down what an interrupted run of the same command had reached."""
        if self.interrupted is not None:
            self.place.write(self.found)
            self.history.finish()

    def target(self) -> int:
        """The version that a rollback goes back to."""
        stable, last = self.found.stable, self.history.last
        if self.interrupted is not None:
            return self.interrupted.version
        if stable is not None and (self.found.canary is not None or self._was_rolled_back(last)):
            return stable
        before = None if stable is None else self.history.before(stable)
        if before is None:
            raise ConfigError(
                f"it is not known what served before: {self.found}",
                expected=f"a record of it in '{self.place.history_file}'"
                if self.place.history_file
                else "--to, without a --model_config_file, beside which it is recorded",
                next_step="name the version by --to",
            )
        return before

    def since(self) -> str:
        """When the version that is stable became so by a rollback, in words."""
        last = self.history.last
        if last is None or not self._was_rolled_back(last):
            return ""
        return f", since the rollback of {last.time}; --to names another version"

    def undo_interrupted(self, record: Record) -> Serving:
        """Has the server serve by the file, which an interrupted roll-out did not change."""
        self.waiting.say(f"a {record.action} to version {record.version} was interrupted")
        undone, sentence = self._undo(record.version)
        if not undone:
            raise ServerError(sentence, expected="a server that answers", next_step=AGAIN)
        self.waiting.say(sentence)
        return self.place.look()

    def _was_rolled_back(self, last: Record | None) -> bool:
        return (
            last is not None
            and last.action == "rollback"
            and last.version == self.found.stable != last.before
        )

    def _undo(self, version: int) -> tuple[bool, str]:
        """Whether all is as before, and that in words."""
        place = self.place
        try:
            self._insist()
            if not place.names(version):
                self.waiting.until_gone(place.control, place.model, {version})
            served = place.look()
            self.history.forget()
        except (SegkitError, KeyboardInterrupt) as err:
            why = err.problem if isinstance(err, SegkitError) else "interrupted again"
            return False, (
                f"it could not be undone ({why}): version {version} may be loaded or labelled "
                f"there, beside what served before: {self.found}"
            )
        return True, f"undone, so that now serves what did before: {served}"

    def _insist(self) -> None:
        """Puts the configuration back, if need be when the server is there again."""
        end = time.monotonic() + self.waiting.back
        while True:
            try:
                return self.place.put_back()
            except ServerUnavailable:
                if time.monotonic() > end:
                    raise
                time.sleep(self.waiting.look)
