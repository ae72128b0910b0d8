"""Where chosen classes are, with soft edges, and two images mixed by it.

All of it is 8-bit: OpenCV multiplies bytes eight times as fast as its blendLinear mixes floats.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from segkit.video.frame import Image, Mask

__all__ = ["blend", "chosen_table", "soften", "soften_inwards"]

Table = npt.NDArray[np.uint8]
"""uint8, (256,): a value for every class id."""


def chosen_table(class_ids: Iterable[int]) -> Table:
    """255 for the class ids, 0 for all others."""
    table = np.zeros(256, np.uint8)
    table[list(class_ids)] = 255
    return table


def soften(where: Mask, width: float) -> Mask:
    """The same with edges that rise over a share of the height, half of it on either side.

    Args:
        where: uint8, (H, W), 0 or 255.
        width: Share of the height; below two pixels the edges stay hard.
    """
    kernel = 2 * round(where.shape[0] * width / 2) + 1
    return np.asarray(cv2.blur(where, (kernel, kernel))) if kernel > 1 else where


def soften_inwards(where: Mask, width: float) -> Mask:
    """The same with edges that rise over a share of the height, all of it inside.

    Args:
        where: uint8, (H, W), 0 or 255.
        width: Share of the height; below two pixels the edges stay hard.
    """
    half = round(where.shape[0] * width / 2)
    inner = cv2.erode(where, np.ones((2 * half + 1, 2 * half + 1), np.uint8))
    return soften(inner, width)


def blend(front: Image, back: Image, alpha: Mask) -> Image:
    """The front where alpha is 255, the back where it is 0, a mixture between; a new array.

    Args:
        front: uint8, (H, W, 3).
        back: uint8, (H, W, 3).
        alpha: uint8, (H, W).
    """
    share = cv2.merge((alpha, alpha, alpha))
    picture = cv2.multiply(front, share, scale=1 / 255)
    rest = cv2.multiply(back, cv2.bitwise_not(share), scale=1 / 255)
    return np.asarray(cv2.add(picture, rest, dst=picture))
