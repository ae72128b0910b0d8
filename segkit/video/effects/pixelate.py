"""Pixelate: chosen classes in blocks too large to recognize anybody or anything by."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segkit.video.effects.blending import chosen_table
from segkit.video.frame import Image, Mask

__all__ = ["Pixelate"]


@dataclass(frozen=True)
class Pixelate:
    """Every block that a chosen class touches, or comes close to, shows its mean colour alone.

    Whole blocks are covered, not the mask: its edge is where a model is wrong first.

    Args:
        class_ids: What is to be hidden.
        block: Height and width of a block, share of the image's height.
        margin: How close is close, share of the image's height; never less than a pixel.
    """

    class_ids: tuple[int, ...]
    _: KW_ONLY
    block: float = 1 / 20  # 24 pixels of 480
    margin: float = 1 / 100

    def __call__(self, image: Image, mask: Mask, confidence: Mask | None = None) -> Image:
        """The picture: uint8, (H, W, 3), RGB. The image stays as it is."""
        height, width = mask.shape
        block = max(2, round(height * self.block))
        # Whole blocks: what is repeated beyond the edge counts in the last ones' means.
        right, bottom = -width % block, -height % block
        size = ((width + right) // block, (height + bottom) // block)  # (x, y), as cv2 has it
        where = self._close(mask, height)
        where = cv2.copyMakeBorder(where, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=0)
        # Floats, for one pixel in a block of bytes would be rounded away.
        touched = (cv2.resize(where, size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
        whole = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        means = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
        full = (width + right, height + bottom)
        covered = cv2.resize(touched, full, interpolation=cv2.INTER_NEAREST)
        blocks = cv2.resize(means, full, interpolation=cv2.INTER_NEAREST)
        picture = image.copy()
        cv2.copyTo(blocks[:height, :width], covered[:height, :width], picture)
        return picture

    def _close(self, mask: Mask, height: int) -> npt.NDArray[np.float32]:
        """Above 0 where a chosen class is, or is close."""
        pixels = max(1, round(height * self.margin))
        kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
        near = cv2.dilate(cv2.LUT(mask, chosen_table(self.class_ids)), kernel)
        return np.asarray(near, np.float32)
