"""Reader: the newest frame of a connection, read in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from time import perf_counter
from typing import Protocol

from segkit.errors import VideoError
from segkit.video.frame import Image, VideoInfo

__all__ = ["Capture", "Closed", "Connection", "Late", "Reader"]


@dataclass(frozen=True, kw_only=True)
class Capture:
    """A frame that arrived, not yet converted: most may be passed over.

    Args:
        image: Makes the image.
        captured: When it arrived, in seconds of time.perf_counter().
        time: By the clock of what sent it, seconds; None: it names none.
    """

    image: Callable[[], Image]
    captured: float
    time: Fraction | None = None


class Connection(Protocol):
    """An open camera or stream. Used by one thread."""

    @property
    def info(self) -> VideoInfo:
        """Size and rate; known once the first capture is there."""

    def captures(self) -> Iterator[Capture]:
        """What arrives; ends where the stream ends, and raises VideoError where it breaks."""

    def close(self) -> None:
        """Closes it."""


class Late(Exception):
    """No frame came in time."""


class Closed(Exception):
    """The reader was left."""


class Reader:
    """Opens and reads a connection in a thread, and holds the newest capture.

    The thread may hang in a library, where nothing reaches it. Then it is left behind: it closes
    its connection itself when it comes back.
    """

    def __init__(self, connect: Callable[[], Connection], name: str) -> None:
        self._connect = connect
        self._change = threading.Condition()
        self._capture: Capture | None = None
        self._count = 0
        self._begun: float | None = None
        self._left = False
        self._error: VideoError | None = None
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"read {name}", daemon=True)
        self._thread.start()

    @property
    def lasted_s(self) -> float:
        """Seconds since the first capture; 0 where there was none."""
        return 0 if self._begun is None else perf_counter() - self._begun

    def wait(self, seconds: float) -> None:
        """Waits for a capture and leaves it there.

        Raises:
            VideoError: It cannot be opened, or has ended.
            Late: None came in time.
            Closed: It was left.
        """
        with self._change:
            self._change.wait_for(self._has_news, seconds)
            if self._left:
                raise Closed
            if self._capture is None:
                if self._fault is not None:
                    raise self._fault
                raise Late(f"no frame for {seconds:.3g} s")

    def take(self, seconds: float) -> tuple[int, Capture]:
        """The newest capture and how many came before it; waits for one. Raises as `wait`."""
        with self._change:
            self.wait(seconds)
            capture, self._capture = self._capture, None
            assert capture is not None
            return self._count - 1, capture

    def leave(self) -> None:
        """Lets whoever waits go, and the thread end at the next capture."""
        with self._change:
            self._left = True
            self._change.notify_all()

    def join(self, seconds: float) -> None:
        """Waits for the thread to end."""
        self._thread.join(seconds)

    def _has_news(self) -> bool:
        return self._capture is not None or self._fault is not None or self._left

    def _run(self) -> None:
        try:
            connection = self._connect()
            try:
                for capture in connection.captures():
                    with self._change:
                        if self._left:
                            return
                        self.info = connection.info
                        self._begun = self._begun or perf_counter()
                        self._capture = capture
                        self._count += 1
                        self._change.notify_all()
            finally:
                connection.close()
            fault: BaseException = VideoError("the stream ended")
        except BaseException as err:  # whatever it is, the thread that takes the frames raises it
            fault = err
        with self._change:
            self._fault = fault
            self._change.notify_all()
