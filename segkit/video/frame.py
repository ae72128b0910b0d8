"""What travels through a stream: frames, and the protocols of where they come from and go to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from time import perf_counter
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Frame", "Image", "Mask", "SegmentedFrame", "Sink", "Source", "VideoInfo"]

Image = npt.NDArray[np.uint8]
"""uint8, (H, W, 3), RGB."""
Mask = npt.NDArray[np.uint8]
"""uint8, (H, W), class ids."""


@dataclass(frozen=True)
class Frame:
    """An image of a source.

    Args:
        image: uint8, (H, W, 3), RGB.
        index: Position in the source, from 0.
        time: Seconds since the first frame, exact.
        captured: When it was captured, or decoded, in seconds of time.perf_counter(): its age is
            counted from there.
    """

    image: Image
    index: int
    time: Fraction
    captured: float = field(default_factory=perf_counter)

    @property
    def time_s(self) -> float:
        """Seconds since the first frame."""
        return float(self.time)


@dataclass(frozen=True)
class SegmentedFrame:
    """A frame with its mask and the picture drawn of both.

    Args:
        frame: The frame as it came from the source.
        mask: uint8, (H, W) of the frame, class ids.
        picture: uint8, (H, W, 3), RGB.
        confidence: uint8, (H, W) of the frame, probability of the class times 255; None where it
            was not asked for.
        stage_ms: Stage -> milliseconds that it took for this frame, as far as it is known.
    """

    frame: Frame
    mask: Mask
    picture: Image
    confidence: Mask | None = None
    stage_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a source says of itself.

    Args:
        height: Pixels, as shown (after rotation).
        width: Pixels, as shown.
        rate: Frames a second, exact; the average where it varies.
        time_base: The unit that frame times are whole multiples of, seconds.
        num_frames: As the file declares it; 0 where it does not.
        live: Whether frames come on their own time, so that only the newest matters; else none may
            be lost.
    """

    height: int
    width: int
    rate: Fraction
    time_base: Fraction
    num_frames: int = 0
    live: bool = False


class Source(Protocol):
    """Gives frames in order."""

    @property
    def info(self) -> VideoInfo:
        """Size and rate of the frames."""

    def __iter__(self) -> Iterator[Frame]:
        """The frames; a source can be iterated once."""


class Sink(Protocol):
    """Takes segmented frames in order. A context manager: leaving it by an error discards."""

    def write(self, segmented: SegmentedFrame) -> None:
        """Takes the next frame."""
