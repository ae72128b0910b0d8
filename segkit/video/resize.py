"""Images to the size that a model takes, masks back to the size of the image."""

from __future__ import annotations

import cv2
import numpy as np

from segkit.video.frame import Image, Mask

__all__ = ["resize_image", "resize_mask"]


def resize_image(image: Image, size: tuple[int, int]) -> Image:
    """An image of the wanted height and width; the image itself where it has them already.

    Args:
        image: uint8, (H, W, 3), RGB.
        size: Height and width, pixels.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    # Averaging over areas keeps a smaller image from aliasing; it cannot enlarge.
    smaller = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method))


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask of the wanted height and width, every id one of those it had.

    Args:
        mask: uint8, (H, W), class ids.
        size: Height and width, pixels.
    """
    height, width = size
    if mask.shape == size:
        return mask
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
