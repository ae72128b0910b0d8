"""Drawer: the protocol of everything that makes a picture of an image and its mask."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from segkit.video.frame import Image, Mask

__all__ = ["Drawer", "needs_confidence", "picture_size"]


class Drawer(Protocol):
    """Makes a picture. Every call gives an array of its own, or the image itself unchanged."""

    def __call__(self, image: Image, mask: Mask, confidence: Mask | None = None) -> Image:
        """The picture: uint8, (H, W, 3), RGB. The image stays as it is.

        Args:
            image: uint8, (H, W, 3), RGB.
            mask: uint8, (H, W), class ids.
            confidence: uint8, (H, W), probability of the class times 255.
        """


def needs_confidence(drawer: Drawer) -> bool:
    """Whether the drawer cannot do without confidence, so that it must be asked for."""
    return bool(getattr(drawer, "needs_confidence", False))


def picture_size(drawer: Drawer, image_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the pictures that a drawer makes of images of that height and width."""
    nothing = np.zeros(image_size, np.uint8)
    height, width, _ = drawer(np.zeros((*image_size, 3), np.uint8), nothing, nothing).shape
    return height, width
