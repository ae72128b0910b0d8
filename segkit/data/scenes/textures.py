"""Value noise, and the surfaces made of it: asphalt, slabs, bricks, plaster, bark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Image", "bricks", "fractal", "noise", "pyramid", "slabs", "to_bytes"]

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> Floats:
    """Smooth value noise, float32, about -1..1, with features of `cell` pixels."""
    height, width = shape
    grid = (max(2, round(height / cell) + 1), max(2, round(width / cell) + 1))
    values = rng.uniform(-1, 1, grid).astype(np.float32)
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC))


def fractal(
    rng: np.random.Generator, shape: tuple[int, int], cells: Sequence[float], fall: float = 0.6
) -> Floats:
    """A sum of noises, the n-th weighted by fall**n, scaled to about -1..1."""
    total = np.zeros(shape, np.float32)
    for index, cell in enumerate(cells):
        total += fall**index * noise(rng, shape, cell)
    return total / np.float32(sum(fall**index for index in range(len(cells))) ** 0.5)


def to_bytes(color: npt.NDArray[Any]) -> Image:
    """Colours as uint8; what is brighter than 255 becomes 255. They must not be negative."""
    return np.asarray(cv2.convertScaleAbs(color))


def bricks(
    rng: np.random.Generator, shape: tuple[int, int], *, size: tuple[int, int], contrast: float
) -> Floats:
    """Brightness of a brick wall, about 1, float32; `size` is height and width of a brick."""
    height, width = shape
    rows, columns = height // size[0] + 1, width // size[1] + 2
    tone = 1 + contrast * rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    y, x = np.arange(height), np.arange(width)
    row = y // size[0]
    shifted = x[None, :] + (row % 2 * (size[1] // 2))[:, None]
    wall = tone[row[:, None], shifted // size[1]]
    mortar = (y % size[0] == 0)[:, None] | (shifted % size[1] == 0)
    wall[mortar] *= 1 - 0.8 * contrast
    return wall


def slabs(
    rng: np.random.Generator, shape: tuple[int, int], *, size: int, contrast: float
) -> Floats:
    """Brightness of square paving slabs with joints, about 1, float32."""
    height, width = shape
    tone = rng.uniform(-1, 1, (height // size + 1, width // size + 1)).astype(np.float32)
    y, x = np.arange(height), np.arange(width)
    paved = 1 + contrast * tone[(y // size)[:, None], (x // size)[None, :]]
    joints = (y % size == 0)[:, None] | (x % size == 0)[None, :]
    paved[joints] *= 0.8
    return paved


def pyramid(texture: Image, levels: int) -> list[Image]:
    """The texture and its halvings, so that what is far away does not flicker."""
    result = [texture]
    for _ in range(levels - 1):
        height, width = result[-1].shape[:2]
        if min(height, width) < 8:
            break
        half = (max(1, width // 2), max(1, height // 2))
        result.append(np.asarray(cv2.resize(result[-1], half, interpolation=cv2.INTER_AREA)))
    return result
