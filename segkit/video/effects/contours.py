"""Contours: the borders of the classes, and the image between them as it is."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import cv2
import numpy as np

from segkit.labels import IGNORE_ID, LabelMap
from segkit.video.effects.blending import Table
from segkit.video.effects.legend import Legend, shown_labels
from segkit.video.frame import Image, Mask

__all__ = ["Contours"]


@dataclass(frozen=True)
class Contours:
    """Draws each class's border in its colour, on its own side of it.

    Args:
        labels: The classes. Black ones, as a background is, get no border.
        class_ids: The classes to outline; all if empty.
        width: Of a line, share of the image's height; never less than a pixel.
        legend: Whether a panel names the colours.
    """

    labels: LabelMap
    _: KW_ONLY
    class_ids: tuple[int, ...] = ()
    width: float = 1 / 200  # 2 pixels of 480
    legend: bool = True

    def __call__(self, image: Image, mask: Mask, confidence: Mask | None = None) -> Image:
        """The picture: uint8, (H, W, 3), RGB. The image stays as it is."""
        outlined = cv2.LUT(mask, self._outlined)
        pixels = max(1, round(mask.shape[0] * self.width))
        kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
        edges = cv2.morphologyEx(outlined, cv2.MORPH_GRADIENT, kernel)
        edges[outlined == IGNORE_ID] = 0
        picture = image.copy()
        cv2.copyTo(cv2.applyColorMap(outlined, self._colors), edges, picture)
        if self._legend is not None:
            self._legend.draw(picture)
        return np.asarray(picture)

    @cached_property
    def _outlined(self) -> Table:
        """Class id -> itself, or IGNORE_ID for what has no border."""
        table = np.full(256, IGNORE_ID, np.uint8)
        shown = shown_labels(self.labels)
        for class_id, label in enumerate(self.labels.labels):
            if label in shown and (not self.class_ids or class_id in self.class_ids):
                table[class_id] = class_id
        return table

    @cached_property
    def _colors(self) -> Image:
        return self.labels.palette().reshape(256, 1, 3)

    @cached_property
    def _legend(self) -> Legend | None:
        outlined = tuple(
            label
            for class_id, label in enumerate(self.labels.labels)
            if self._outlined[class_id] != IGNORE_ID
        )
        return Legend(outlined) if self.legend and outlined else None
