"""What is not of the chosen classes, blurred or dimmed."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import cv2
import numpy as np

from segkit.video.effects.blending import Table, blend, chosen_table, soften, soften_inwards
from segkit.video.frame import Image, Mask

__all__ = ["Blur", "Spotlight"]

EDGE_WIDTH = 1 / 80  # share of the height: 6 pixels of 480
# What is blurred loses all detail below sigma, so it may be made small first, as long as sigma
# stays so many pixels: enough that enlarging it shows no steps.
WORKING_SIGMA = 3.0
# Mask pixels off the true edge still hold the foreground's colours; so many sigmas of them stay
# out of the background, too.
REMOVED_AROUND = 0.5
# Where there is no background near, as in a gap between two legs, what was taken out fills in;
# elsewhere so little of it cannot be seen.
WEIGHT_OF_REMOVED = 1e-3


@dataclass(frozen=True)
class Blur:
    """The chosen classes sharp before a blurred background, with soft edges.

    The foreground is taken out before the blur and the background spreads into its place, so that
    nothing of it glows around it.

    Args:
        class_ids: The foreground.
        sigma: Of the blur, share of the image's height.
        edge_width: Of the soft edge, share of the image's height.
    """

    class_ids: tuple[int, ...]
    _: KW_ONLY
    sigma: float = 1 / 40  # 12 pixels of 480
    edge_width: float = EDGE_WIDTH

    def __call__(self, image: Image, mask: Mask, confidence: Mask | None = None) -> Image:
        """The picture: uint8, (H, W, 3), RGB. The image stays as it is."""
        where = cv2.LUT(mask, self._chosen)
        back = self._blurred(image, where)
        return blend(image, back, soften(where, self.edge_width))

    def _blurred(self, image: Image, where: Mask) -> Image:
        height, width = where.shape
        sigma = height * self.sigma
        small, taken = image, where
        while sigma >= 2 * WORKING_SIGMA:
            small, taken, sigma = _halved(small), _halved(taken), sigma / 2
        around = 2 * round(REMOVED_AROUND * sigma) + 1
        taken = cv2.dilate(taken, np.ones((around, around), np.uint8))
        weight = np.where(taken, np.float32(WEIGHT_OF_REMOVED), np.float32(1))
        colors = cv2.GaussianBlur(small * weight[..., None], (0, 0), sigma)
        colors /= cv2.GaussianBlur(weight, (0, 0), sigma)[..., None]
        return np.asarray(cv2.resize(colors.clip(0, 255).astype(np.uint8), (width, height)))

    @cached_property
    def _chosen(self) -> Table:
        return chosen_table(self.class_ids)


@dataclass(frozen=True)
class Spotlight:
    """The chosen classes in colour, all else grey and dark.

    Args:
        class_ids: What stays in colour.
        brightness: Of the rest, share of its own.
        edge_width: Of the soft edge, share of the image's height.
    """

    class_ids: tuple[int, ...]
    _: KW_ONLY
    brightness: float = 0.4
    edge_width: float = EDGE_WIDTH

    def __call__(self, image: Image, mask: Mask, confidence: Mask | None = None) -> Image:
        """The picture: uint8, (H, W, 3), RGB. The image stays as it is."""
        gray = cv2.convertScaleAbs(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), alpha=self.brightness)
        # Inwards, for a rim of its bright surroundings would outline what is dark.
        alpha = soften_inwards(cv2.LUT(mask, self._chosen), self.edge_width)
        return blend(image, cv2.merge((gray, gray, gray)), alpha)

    @cached_property
    def _chosen(self) -> Table:
        return chosen_table(self.class_ids)


def _halved(image: Image) -> Image:
    """At half the size; several of these take a third of the time of one step."""
    height, width = image.shape[:2]
    size = (max(1, width // 2), max(1, height // 2))  # (x, y), as cv2 has it
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
