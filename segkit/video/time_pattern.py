"""A pattern that carries a frame's number and the time through codecs, to be read by a program.

Drawn into the frames of a source and read from what arrives, it proves order, losses, duplicates
and the time in between. It lies in the upper left corner, 16 by 6 blocks over half the width and a
quarter of the height, so that it is found again in an image of another size: no search, no state.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from time import perf_counter

import cv2
import numpy as np
import numpy.typing as npt

from segkit.video.frame import Image

__all__ = ["Pattern", "clock_ms", "draw_pattern", "read_pattern"]

ROWS, COLUMNS = 6, 16
SHARE_OF_HEIGHT, SHARE_OF_WIDTH = 4, 2  # one of so many
MARKER = 0b01100101  # the blocks that every pattern begins with
ID_BITS, CLOCK_BITS = 24, 32
SAMPLES = 4  # a block is looked at as so many by so many points, of which the inner ones count
SMALLEST_CONTRAST = 40  # between black and white, of 255
UNSURE = 0.2  # a block nearer than that to the middle grey, as share of the contrast, is neither

Bits = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pattern:
    """What a pattern says.

    Args:
        frame_id: Number of the frame, 24 bits.
        clock_ms: When it was drawn, or is said to be captured, as clock_ms() gives it.
    """

    frame_id: int
    clock_ms: int

    def age_ms(self, now_ms: int | None = None) -> int:
        """Milliseconds from its clock to now.

        Args:
            now_ms: What clock_ms() gave; None: now.
        """
        return ((clock_ms() if now_ms is None else now_ms) - self.clock_ms) % (1 << CLOCK_BITS)


def clock_ms(seconds: float | None = None) -> int:
    """The clock of the patterns: milliseconds in 32 bits, one for all programs on a machine.

    Args:
        seconds: A time of time.perf_counter(); None: now.
    """
    return int((perf_counter() if seconds is None else seconds) * 1e3) % (1 << CLOCK_BITS)


def draw_pattern(image: Image, frame_id: int, clock_ms: int) -> None:
    """Draws the pattern.

    Args:
        image: uint8, (H, W, 3), RGB; changed in place. From 96x160 on it survives being coded.
        frame_id: Number of the frame; its lowest 24 bits are kept.
        clock_ms: Milliseconds; its lowest 32 bits are kept.
    """
    area = _area(image)
    height, width = area.shape[:2]
    blocks = _bits(frame_id % (1 << ID_BITS), clock_ms % (1 << CLOCK_BITS)).reshape(ROWS, COLUMNS)
    gray = cv2.resize(blocks * 255, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    area[:] = cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)


def read_pattern(image: Image) -> Pattern | None:
    """What the pattern in the image says; None where there is none, or a block cannot be read.

    Args:
        image: uint8, (H, W, 3), RGB; of any size, with the whole picture in it.
    """
    area = _area(image)
    if area.shape[0] < ROWS or area.shape[1] < COLUMNS:
        return None
    gray = cv2.cvtColor(area, cv2.COLOR_RGB2GRAY)
    size = (COLUMNS * SAMPLES, ROWS * SAMPLES)
    points = cv2.resize(gray, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    # The outer points are blurred by codecs and scaling.
    inner = points.reshape(ROWS, SAMPLES, COLUMNS, SAMPLES)[:, 1:-1, :, 1:-1]
    levels = inner.mean((1, 3)).ravel()
    marker = _unpack(MARKER, 8) > 0
    black, white = levels[:8][~marker].mean(), levels[:8][marker].mean()
    if white - black < SMALLEST_CONTRAST:
        return None
    shares = (levels - black) / (white - black)
    if np.abs(shares - 0.5).min() < UNSURE:
        return None
    bits = (shares > 0.5).astype(np.uint8)
    frame_id = _from_gray(_pack(bits[8 : 8 + ID_BITS]))
    clock = _from_gray(_pack(bits[8 + ID_BITS : 8 + ID_BITS + CLOCK_BITS]))
    # The marker and the check alike: what is not exactly what would be drawn is no pattern.
    return Pattern(frame_id, clock) if (bits == _bits(frame_id, clock)).all() else None


def _area(image: Image) -> Image:
    return image[: image.shape[0] // SHARE_OF_HEIGHT, : image.shape[1] // SHARE_OF_WIDTH]


def _bits(frame_id: int, clock_ms: int) -> Bits:
    """Marker, number, clock, and a check of 32 bits over both.

    Number and clock are in Gray code: from one frame to the next few blocks change, so that little
    is left of the one before where a codec saves bits or a camera exposes two.
    """
    number, clock = _to_gray(frame_id), _to_gray(clock_ms)
    check = zlib.crc32(number.to_bytes(ID_BITS // 8) + clock.to_bytes(CLOCK_BITS // 8))
    fields = ((MARKER, 8), (number, ID_BITS), (clock, CLOCK_BITS), (check, 32))
    return np.concatenate([_unpack(value, width) for value, width in fields])


def _to_gray(value: int) -> int:
    return value ^ (value >> 1)


def _from_gray(value: int) -> int:
    result = 0
    while value:
        result ^= value
        value >>= 1
    return result


def _unpack(value: int, width: int) -> Bits:
    return np.unpackbits(np.frombuffer(value.to_bytes(width // 8), np.uint8))


def _pack(bits: Bits) -> int:
    return int.from_bytes(np.packbits(bits).tobytes())
