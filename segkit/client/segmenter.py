"""Segmenter: what turns images into masks, wherever the model runs."""

from __future__ import annotations

from concurrent.futures import Future
from typing import NamedTuple, Protocol

import numpy as np

from segkit.contract import Metadata
from segkit.video.frame import Image, Mask
from segkit.video.resize import resize_image

__all__ = ["Answer", "Segmenter", "resize_batch"]


class Answer(NamedTuple):
    """What a model says of one image.

    Attributes:
        mask: uint8, (h, w), class ids.
        confidence: uint8, (h, w), probability of that class times 255; None if not asked for.
        sent_bytes: Of the request; 0 where none travelled.
        received_bytes: Of the reply.
    """

    mask: Mask
    confidence: Mask | None = None
    sent_bytes: int = 0
    received_bytes: int = 0


class Segmenter(Protocol):
    """Images of any size in; masks of the model's size out. Threads may share one.

    `segkit.video.resize.resize_mask` brings a mask to the size of its image.
    """

    def segment(self, images: Image) -> Mask:
        """The masks of a batch.

        Args:
            images: uint8, (B, H, W, 3), RGB, 0..255.

        Returns:
            uint8, (B, h, w), class ids; h and w are `describe().image_size`.

        Raises:
            ServerError: The model cannot be asked; the subclass says why.
        """

    def submit(self, image: Image, *, timeout_s: float | None = None) -> Future[Answer]:
        """Starts on one image and returns at once; many may be under way.

        Args:
            image: uint8, (H, W, 3), RGB, 0..255.
            timeout_s: Seconds until it is given up; the segmenter's own number if None.

        Returns:
            A future that may raise what `segment` raises.
        """

    def describe(self) -> Metadata:
        """What the model says of itself: classes, colours, image size.

        Raises:
            ServerError: The model cannot be asked; the subclass says why.
        """


def resize_batch(images: Image, size: tuple[int, int]) -> Image:
    """The images at the model's size: uint8, (B, h, w, 3).

    Raises:
        ValueError: They are not uint8 of shape (B, H, W, 3).
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images are {images.dtype} {images.shape}, not uint8 (B, H, W, 3)")
    if images.shape[1:3] == size:
        return images
    return np.stack([resize_image(image, size) for image in images])
