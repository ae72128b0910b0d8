"""Overlay: a mask laid over its image in the colours of the label map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property

import cv2
import numpy as np

from segkit.labels import LabelMap
from segkit.video.effects.blending import Table, blend
from segkit.video.effects.legend import Legend, shown_labels
from segkit.video.frame import Image, Mask

__all__ = ["Overlay"]

EDGE_KERNEL = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Overlay:
    """Colours every pixel by its class, sharpens the borders, and explains the colours.

    Classes that are black in the label map, as a background is, leave the image as it is: black
    over an image only hides it. So do ignored pixels.

    Args:
        labels: The classes.
        opacity: Share of the colour, 0 (the image alone) to 1 (the colours alone).
        class_opacity: Class id -> opacity, for classes with one of their own.
        legend: Whether a panel names the colours.
    """

    labels: LabelMap
    _: KW_ONLY
    opacity: float = 0.5
    class_opacity: Mapping[int, float] = field(default_factory=dict)
    legend: bool = True

    def __call__(self, image: Image, mask: Mask, confidence: Mask | None = None) -> Image:
        """The picture: uint8, (H, W, 3), RGB. The image stays as it is."""
        # OpenCV's colour maps go through unchanged, so an RGB table gives RGB.
        colors = cv2.applyColorMap(mask, self._colors)
        alpha = cv2.LUT(mask, self._alphas)
        if self.class_opacity:
            picture = blend(colors, image, alpha)
        else:  # half the time
            picture = cv2.addWeighted(image, 1 - self.opacity, colors, self.opacity, 0)
            cv2.copyTo(image, (alpha == 0).view(np.uint8), picture)
        edges = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, EDGE_KERNEL)
        cv2.copyTo(colors, cv2.min(edges, alpha), picture)
        if self._legend is not None:
            self._legend.draw(picture)
        return np.asarray(picture)

    @cached_property
    def _colors(self) -> Image:
        return self.labels.palette().reshape(256, 1, 3)

    @cached_property
    def _alphas(self) -> Table:
        alphas = np.zeros(256, np.uint8)
        for class_id, label in enumerate(self.labels.labels):
            if label in shown_labels(self.labels):
                alphas[class_id] = round(255 * self.class_opacity.get(class_id, self.opacity))
        return alphas

    @cached_property
    def _legend(self) -> Legend | None:
        return Legend.of(self.labels) if self.legend else None
