"""Replace: the chosen classes before another background."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import cv2

from segkit.video.effects.backdrops import Backdrop
from segkit.video.effects.blending import Table, blend, chosen_table, soften_inwards
from segkit.video.frame import Image, Mask

__all__ = ["Replace"]


@dataclass(frozen=True)
class Replace:
    """Puts another picture behind the chosen classes, with soft edges.

    The edges soften inwards: outside the mask nothing of the old background is left, neither a rim
    of its colours nor what it showed.

    Args:
        class_ids: The foreground.
        backdrop: Gives the new background.
        edge_width: Of the soft edge, share of the image's height.
    """

    class_ids: tuple[int, ...]
    backdrop: Backdrop
    _: KW_ONLY
    edge_width: float = 1 / 120  # 4 pixels of 480

    def __call__(self, image: Image, mask: Mask, confidence: Mask | None = None) -> Image:
        """The picture: uint8, (H, W, 3), RGB. The image stays as it is."""
        height, width = mask.shape
        alpha = soften_inwards(cv2.LUT(mask, self._chosen), self.edge_width)
        return blend(image, self.backdrop((height, width)), alpha)

    @cached_property
    def _chosen(self) -> Table:
        return chosen_table(self.class_ids)
