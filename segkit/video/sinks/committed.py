"""CommittedSink: what is written is complete, or absent."""

from __future__ import annotations

from types import TracebackType
from typing import Any

__all__ = ["CommittedSink"]


class CommittedSink:
    """A context manager that commits what was written, or discards it where an error passes.

    Two things are no error. Ctrl-C or SIGTERM: whoever stops a run keeps what it made so far. And
    the end of a live stream, whatever ends it: it has no length that a recording could fall
    short of, and cannot be recorded again.

    Args:
        live: Whether the frames come from a live source.
    """

    def __init__(self, *, live: bool = False) -> None:
        self._live = live
        self._cut_short = False  # before its end, by a signal

    def close(self) -> None:
        """Finishes what was written and puts it in its place."""
        raise NotImplementedError

    def discard(self) -> None:
        """Removes what was written."""
        raise NotImplementedError

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failed = kind is not None and issubclass(kind, Exception)
        if failed and not self._live:
            self.discard()
            return
        self._cut_short = kind is not None and not self._live
        try:
            self.close()
        except BaseException:
            self.discard()
            raise
