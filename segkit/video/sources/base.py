"""OpenSource: what all sources have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from segkit.video.frame import Frame, VideoInfo

__all__ = ["OpenSource"]

Self = TypeVar("Self", bound="OpenSource")


class OpenSource(ABC):
    """A source of frames that was opened. A context manager, to be iterated once."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What to call it in messages; never with a password in it."""

    @property
    @abstractmethod
    def info(self) -> VideoInfo:
        """Size and rate of the frames."""

    @property
    def path(self) -> Path | None:
        """The video file, where it is one: whoever wants its sound finds it there."""
        return None

    @property
    def restarts(self) -> int:
        """How often a live source was lost and came back."""
        return 0

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """The frames, once.

        Raises:
            VideoError: It cannot be read on.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends it. Of a live source: from any thread, and whoever waits for a frame goes on."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
