"""LiveSource: the newest frames of something that runs by itself, and is started again."""

from __future__ import annotations

import logging
import random
import threading
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from time import perf_counter

from segkit.errors import VideoError
from segkit.video.frame import Frame, VideoInfo
from segkit.video.resize import resize_image
from segkit.video.sources.base import OpenSource
from segkit.video.sources.reader import Capture, Closed, Connection, Late, Reader

__all__ = ["LiveSource", "Patience"]

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0
STEADY_S = 10.0  # a connection that lasted so long was a good one: pauses begin anew
LARGEST_STEP_S = 1.0  # that a camera's clock may run ahead of ours between two frames
LARGEST_DRIFT_S, CORRECTION = (
    0.5,
    Fraction(1, 10),
)  # from our clock; faster or slower until it is less
LEAVING_S = 1.0  # that close() waits for a reader; one that hangs in a library is left behind


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a live source is waited for, in seconds.

    Args:
        open: For the first frame, when it is opened and at each restart. Cameras begin with a
            keyframe, which some send only every few seconds.
        stall: Between two frames, before it is started again. TCP mends losses within 3 s, and a
            restart costs a second or two itself: less would break what is about to go on.
        outage: Without any frame, before it is given up.
    """

    open: float = 10.0
    stall: float = 5.0
    outage: float = 60.0


class LiveSource(OpenSource):
    """Reads continuously in a thread of its own; a frame that is not taken in time is replaced.

    So nothing waits anywhere, however slow the taker is. Indices count all frames that arrived: a
    gap is what was replaced. Where no frame comes, or the stream ends or breaks, it is opened again
    after pauses that grow and vary; indices and times go on, and images keep their first size.

    Args:
        patience: How long to wait for what.

    Raises:
        VideoError: It cannot be opened, or sends no frame.
    """

    def __init__(self, patience: Patience = Patience()) -> None:
        self._patience = patience
        self._closed = threading.Event()
        self._random = random.Random()
        self._restarts = 0
        self._attempts = 0  # to open it again, since it was steady
        self._reader = Reader(self._connect, self.name)
        try:
            self._reader.wait(patience.open)
        except Late:
            self.close()
            raise VideoError(
                f"{self.name} sent no frame within {patience.open:g} s",
                expected="a live source that is switched on",
                next_step="check that it plays elsewhere",
            ) from None
        except BaseException:
            self.close()
            raise
        self._info = replace(self._reader.info, live=True, num_frames=0)

    @property
    def info(self) -> VideoInfo:
        """As the source itself says, when it was opened first."""
        return self._info

    @property
    def restarts(self) -> int:
        """How often it was lost and came back."""
        return self._restarts

    def __iter__(self) -> Iterator[Frame]:
        """The newest frame, again and again, until close().

        Raises:
            VideoError: It was away for longer than the patience allows.
        """
        index, time = 0, Fraction(0)
        last: Capture | None = None
        begin = 0.0
        before = 0  # frames of earlier connections
        while not self._closed.is_set():
            try:
                count, capture = self._reader.take(self._patience.stall)
            except Closed:
                return
            except (Late, VideoError) as err:
                before = index + 1
                if not self._restart(str(err).partition("\n")[0]):
                    return
                if last is not None:
                    last = replace(last, time=None)  # another clock, perhaps
                continue
            index = before + count
            if last is None:
                begin = capture.captured
            else:
                time += self._step(last, capture, time - Fraction(capture.captured - begin))
            last = capture
            image = resize_image(capture.image(), (self._info.height, self._info.width))
            yield Frame(image, index, time, capture.captured)

    def close(self) -> None:
        """Ends it, from any thread: iteration stops, and whoever waits for a frame goes on."""
        self._closed.set()
        self._reader.leave()
        self._reader.join(LEAVING_S)

    @abstractmethod
    def _connect(self) -> Connection:
        """Opens it. Called in a thread of its own.

        Raises:
            VideoError: It cannot be opened.
        """

    def _restart(self, reason: str) -> bool:
        """Opens it again and waits for a frame; False where it was closed meanwhile."""
        lost = perf_counter()
        logger.warning("%s is lost and will be opened again: %s", self.name, reason)
        if self._reader.lasted_s > STEADY_S:
            self._attempts = 0
        while True:
            self._reader.leave()
            longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._attempts, 9))
            self._attempts += 1
            if self._closed.wait(longest * self._random.uniform(0.5, 1)):
                return False
            left = self._patience.outage - (perf_counter() - lost)
            if left <= 0:
                raise VideoError(
                    f"{self.name} has been away for {self._patience.outage:g} s: {reason}",
                    expected="a live source that comes back within --max_outage",
                    next_step="check it, or give it longer",
                )
            self._reader = Reader(self._connect, self.name)
            if self._closed.is_set():
                self._reader.leave()  # close() may have seen the one before
            try:
                self._reader.wait(min(left, self._patience.open))
            except Closed:
                return False
            except (Late, VideoError) as err:
                reason = str(err).partition("\n")[0]
                logger.info("%s is not back: %s", self.name, reason)
                continue
            self._restarts += 1
            away = perf_counter() - lost
            logger.warning("%s is back after %.1f s", self.name, away)
            return True

    def _step(self, last: Capture, now: Capture, ahead: Fraction) -> Fraction:
        """Seconds between two frames, by their own clock unless that jumps; in whole units.

        What arrives late at the beginning of a connection, and clocks that are not exact, would
        take the times further and further from ours: that is worked off little by little.
        """
        unit = self._info.time_base
        passed = now.captured - last.captured
        step = Fraction(passed)
        if now.time is not None and last.time is not None:
            said = now.time - last.time
            if 0 < said < passed + LARGEST_STEP_S:
                step = said
                if abs(ahead) > LARGEST_DRIFT_S:
                    step *= 1 - CORRECTION if ahead > 0 else 1 + CORRECTION
        return max(1, round(step / unit)) * unit
