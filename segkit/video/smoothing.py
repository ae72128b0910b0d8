"""Masks that do not flicker: a pixel's class changes only on evidence.

Both ways forget everything at a cut, after a gap between frames, and where the size changes: what
was there before says nothing of what is there now.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import cv2
import numpy as np
import numpy.typing as npt

from segkit.errors import ConfigError
from segkit.video.frame import Frame, Image, Mask

__all__ = ["ConfidenceAverage", "Cuts", "Hysteresis", "Smoother"]

CUT_DISTANCE = 0.5  # share of the pixels with another colour
MAX_GAP_S = 0.5  # a person has walked by half a body
# A frame is looked at by about so many rows and columns, with 8 shades a channel, in 16 parts:
# within two street clips neighbours were up to 0.4 apart, frames of different ones 0.8 and more.
GRID = 64
BITS = 3
PARTS = 4  # a side

# By confidence times 255: the share; what stays of an average when a vote comes in; what it adds.
SHARES = np.arange(256, dtype=np.float32) / 255
KEPT = 1 - SHARES**2
VOTES = SHARES**3
# How far an average must turn: two classes that take turns at a confidence of half never get there.
TURNING = 0.1

Histogram = npt.NDArray[np.float64]


class Cuts:
    """Tells where a frame does not go on from the one before.

    Args:
        distance: Of the colour histograms of parts of the frames, from 0, the same, to 1, no colour
            in common.
        max_gap_s: Seconds between two frames.
    """

    def __init__(self, *, distance: float = CUT_DISTANCE, max_gap_s: float = MAX_GAP_S) -> None:
        self._distance = distance
        self._max_gap_s = max_gap_s
        self._time_s = 0.0
        self._histogram: Histogram | None = None

    def __call__(self, frame: Frame) -> bool:
        """Whether something new begins with this frame; the first one always does."""
        histogram, last = _histogram(frame.image), self._histogram
        gap_s = frame.time_s - self._time_s
        self._time_s, self._histogram = frame.time_s, histogram
        if last is None or not 0 < gap_s <= self._max_gap_s:
            return True
        return float(np.abs(histogram - last).sum()) / 2 > self._distance

    def reset(self) -> None:
        """Forgets the last frame."""
        self._histogram = None


class Smoother(ABC):
    """Smooths the masks of one stream, in order.

    Args:
        cuts: Tells where to begin anew.
    """

    def __init__(self, cuts: Cuts | None = None) -> None:
        self._cuts = cuts or Cuts()
        self._shown: Mask | None = None

    def __call__(self, frame: Frame, mask: Mask, confidence: Mask | None = None) -> Mask:
        """The smoothed mask of the frame, an array of its own or the mask itself.

        Args:
            frame: Whose mask it is.
            mask: uint8, (H, W), class ids.
            confidence: uint8, (H, W), probability of the class times 255.
        """
        begins = self._cuts(frame)
        if self._shown is None or begins or self._shown.shape != mask.shape:
            self._begin(mask, confidence)
            self._shown = mask
        else:
            # A sink may still hold the last mask, so a new one is made.
            self._shown = self._go_on(self._shown, mask, confidence)
        return self._shown

    def reset(self) -> None:
        """Forgets everything, as before another stream."""
        self._shown = None
        self._cuts.reset()

    @abstractmethod
    def _begin(self, mask: Mask, confidence: Mask | None) -> None:
        """Takes a mask as it is."""

    @abstractmethod
    def _go_on(self, shown: Mask, mask: Mask, confidence: Mask | None) -> Mask:
        """The mask to show after `shown`, a new array."""


class Hysteresis(Smoother):
    """A pixel changes its class only when so many masks on end agree on the new one.

    A change that lasts is shown k - 1 frames late; one that does not last is never shown.

    Args:
        k: Masks that must agree, 1 to 255; 1 changes nothing.
        cuts: Tells where to begin anew.

    Raises:
        ConfigError: k is something else.
    """

    def __init__(self, k: int = 3, *, cuts: Cuts | None = None) -> None:
        super().__init__(cuts)
        if not 1 <= k <= 255:
            raise ConfigError(f"the smoothing is over {k} frames", expected="1 to 255")
        self._k = k
        self._last = self._agreed = np.empty((0, 0), np.uint8)

    def _begin(self, mask: Mask, confidence: Mask | None) -> None:
        self._last = mask
        self._agreed = np.full(mask.shape, 255, np.uint8)

    def _go_on(self, shown: Mask, mask: Mask, confidence: Mask | None) -> Mask:
        agrees = cv2.compare(mask, self._last, cv2.CMP_EQ)  # 255 or 0
        kept = cv2.bitwise_and(self._agreed, agrees, dst=self._agreed)
        self._agreed = cv2.add(kept, np.ones_like(kept), dst=kept)  # stops at 255
        self._last = mask
        lasting = (self._agreed >= self._k).view(np.uint8)
        return np.asarray(cv2.copyTo(mask, lasting, shown.copy()))


class ConfidenceAverage(Smoother):
    """A pixel changes its class when the average of what was said of it turns against it.

    Every mask votes, with its confidence, for or against the class shown. The average takes a vote
    in by the square of its confidence, so one sure of itself changes the pixel at once, and unsure
    ones only together: at a confidence of 0.8 the first, of 0.5 the fifth. Every vote makes older
    ones count less.

    Without confidence all votes are sure and the masks pass as they are.

    Args:
        cuts: Tells where to begin anew.
    """

    def __init__(self, *, cuts: Cuts | None = None) -> None:
        super().__init__(cuts)
        self._average: npt.NDArray[np.float32] = np.empty((0, 0), np.float32)

    def _begin(self, mask: Mask, confidence: Mask | None) -> None:
        self._average = (
            np.ones(mask.shape, np.float32) if confidence is None else cv2.LUT(confidence, SHARES)
        )

    def _go_on(self, shown: Mask, mask: Mask, confidence: Mask | None) -> Mask:
        if confidence is None:
            self._begin(mask, None)
            return mask
        against = cv2.compare(mask, shown, cv2.CMP_NE)
        vote = cv2.LUT(confidence, VOTES)
        cv2.copyTo(cv2.LUT(confidence, -VOTES), against, vote)
        average = cv2.multiply(self._average, cv2.LUT(confidence, KEPT), dst=self._average)
        average = cv2.add(average, vote, dst=average)
        turned = (average < -TURNING).view(np.uint8)
        self._average = cv2.copyTo(cv2.LUT(confidence, SHARES), turned, average)
        return np.asarray(cv2.copyTo(mask, turned, shown.copy()))


def _histogram(image: Image) -> Histogram:
    """Share of the pixels of a coarse grid by part of the image and colour; sums to 1."""
    rows, columns = (max(1, length // GRID) for length in image.shape[:2])
    red, green, blue = np.moveaxis(image[::rows, ::columns].astype(np.int32) >> (8 - BITS), 2, 0)
    height, width = red.shape
    part = (np.arange(height) * PARTS // height)[:, None] * PARTS + np.arange(
        width
    ) * PARTS // width
    codes = (((part << BITS | red) << BITS | green) << BITS) | blue
    return np.bincount(codes.ravel(), minlength=PARTS**2 << 3 * BITS) / codes.size
