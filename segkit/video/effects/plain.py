"""The image, the mask, and both beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from segkit.labels import LabelMap
from segkit.video.effects.drawer import Drawer, needs_confidence
from segkit.video.effects.legend import Legend
from segkit.video.frame import Image, Mask

__all__ = ["InTurn", "MaskOnly", "Original", "SideBySide"]


@dataclass(frozen=True)
class Original:
    """The image as it came."""

    def __call__(self, image: Image, mask: Mask, confidence: Mask | None = None) -> Image:
        """The image itself."""
        return image


@dataclass(frozen=True)
class MaskOnly:
    """The mask in the colours of the classes, black where there is none.

    Args:
        labels: The classes.
        legend: Whether a panel names the colours.
    """

    labels: LabelMap
    legend: bool = True

    def __call__(self, image: Image, mask: Mask, confidence: Mask | None = None) -> Image:
        """The picture: uint8, (H, W, 3), RGB."""
        picture = cv2.applyColorMap(mask, self._colors)
        if self._legend is not None:
            self._legend.draw(picture)
        return np.asarray(picture)

    @cached_property
    def _colors(self) -> Image:
        return self.labels.palette().reshape(256, 1, 3)

    @cached_property
    def _legend(self) -> Legend | None:
        return Legend.of(self.labels) if self.legend else None


@dataclass(frozen=True)
class SideBySide:
    """The image on the left, what another drawer makes of it on the right: twice as wide.

    Args:
        drawer: Draws the right half.
    """

    drawer: Drawer

    @property
    def needs_confidence(self) -> bool:
        """Whether the right half does."""
        return needs_confidence(self.drawer)

    def __call__(self, image: Image, mask: Mask, confidence: Mask | None = None) -> Image:
        """The picture: uint8, (H, 2 W, 3), RGB. The image stays as it is."""
        return np.asarray(cv2.hconcat((image, self.drawer(image, mask, confidence))))


@dataclass(frozen=True)
class InTurn:
    """Several drawers, each on the picture of the one before.

    Args:
        drawers: At least one; all but the last keep the size.
    """

    drawers: Sequence[Drawer]

    @property
    def needs_confidence(self) -> bool:
        """Whether one of them does."""
        return any(map(needs_confidence, self.drawers))

    def __call__(self, image: Image, mask: Mask, confidence: Mask | None = None) -> Image:
        """The last one's picture. The image stays as it is."""
        for drawer in self.drawers:
            image = drawer(image, mask, confidence)
        return image
