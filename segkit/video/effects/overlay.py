"""Overlay: a mask laid over its image in the colours of the label map."""

from __future__ import annotations

import cv2
import numpy as np

from segkit.labels import LabelMap
from segkit.video.frame import Image, Mask
from segkit.video.effects.legend import Legend

__all__ = ["Overlay"]

EDGE_KERNEL = np.ones((3, 3), np.uint8)
BLACK = (0, 0, 0)


class Overlay:
    """Colours every pixel by its class, sharpens the borders, and explains the colours.

    Classes that are black in the label map, as a background is, leave the image as it is: black
    over an image only hides it. So do ignored pixels.

    Args:
        labels: The classes.
        opacity: Share of the colour, 0 (the image alone) to 1 (the colours alone).
        legend: Whether a panel names the colours.
    """

    def __init__(self, labels: LabelMap, *, opacity: float = 0.5, legend: bool = True) -> None:
        self._opacity = opacity
        shown = [label for label in labels.labels if label.color != BLACK]
        # OpenCV's colour maps go through unchanged, so an RGB table gives RGB.
        self._colors = labels.palette().reshape(256, 1, 3)
        self._opaque = np.zeros(256, np.uint8)
        for class_id, label in enumerate(labels.labels):
            self._opaque[class_id] = 255 if label in shown else 0
        self._legend = Legend(shown) if legend and shown else None

    def __call__(self, image: Image, mask: Mask) -> Image:
        """The picture: uint8, (H, W, 3), RGB. The image stays as it is.

        Args:
            image: uint8, (H, W, 3), RGB.
            mask: uint8, (H, W), class ids.
        """
        colors = cv2.applyColorMap(mask, self._colors)
        picture = cv2.addWeighted(image, 1 - self._opacity, colors, self._opacity, 0)
        if self._opacity > 0:
            edges = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, EDGE_KERNEL)
            cv2.copyTo(colors, edges, picture)
        opaque = cv2.LUT(mask, self._opaque)
        picture = cv2.copyTo(picture, opaque, image.copy())
        if self._legend is not None:
            self._legend.draw(picture)
        return np.asarray(picture)
