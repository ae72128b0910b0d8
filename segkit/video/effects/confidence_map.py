"""ConfidenceMap: where the model is sure and where it is not."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import cv2
import numpy as np

from segkit.labels import Label
from segkit.video.effects.legend import Legend
from segkit.video.frame import Image, Mask

__all__ = ["ConfidenceMap"]

# From black, which is sure, to a bright yellow, which is not: what needs a look stands out.
COLORS = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[::-1], cv2.COLORMAP_INFERNO)[..., ::-1]
NAMED_PERCENT = (20, 40, 60, 80, 100)


@dataclass(frozen=True)
class ConfidenceMap:
    """Lays the confidence over the image without its colours: dark where sure, bright where not.

    Args:
        opacity: Share of the colours.
        legend: Whether a panel explains them.
    """

    _: KW_ONLY
    opacity: float = 0.7
    legend: bool = True
    needs_confidence: ClassVar[bool] = True

    def __call__(self, image: Image, mask: Mask, confidence: Mask | None = None) -> Image:
        """The picture: uint8, (H, W, 3), RGB. The image stays as it is.

        Raises:
            ValueError: There is no confidence.
        """
        if confidence is None:
            raise ValueError("a confidence map was asked for without the confidence")
        gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        colors = cv2.applyColorMap(confidence, COLORS)
        picture = cv2.addWeighted(gray, 1 - self.opacity, colors, self.opacity, 0)
        if self.legend:
            LEGEND.draw(picture)
        return np.asarray(picture)


def _label(percent: int) -> Label:
    red, green, blue = (int(value) for value in COLORS[round(2.55 * percent), 0])
    return Label(f"{percent} % sure", (red, green, blue))


LEGEND = Legend(tuple(map(_label, NAMED_PERCENT)))
