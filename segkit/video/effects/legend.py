"""Legend: a panel of swatches and class names, readable on any image."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from segkit.labels import Label
from segkit.video.frame import Image

__all__ = ["Legend"]

FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_HEIGHT = 21  # pixels of a capital letter at scale 1
SUPERSAMPLING = 4  # drawn so much larger and averaged down: OpenCV's own strokes are coarse
SMALLEST_ROW = 9  # pixels; below that nobody reads it
ROWS_PER_IMAGE = 24  # a row's height is the image's height through this
SHARE_OF_HEIGHT, SHARE_OF_WIDTH = 0.92, 0.5

PANEL_COLOR = (18, 20, 24)
PANEL_OPACITY = 0.72
TEXT_COLOR = (245, 245, 245)
SWATCH_BORDER = (235, 235, 235)

Float = npt.NDArray[np.float32]


class Legend:
    """Draws the panel into the lower left corner; its size follows the image's.

    Args:
        labels: The classes to name, in order.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self._labels = tuple(labels)
        self._panel = lru_cache(maxsize=4)(self._make_panel)

    def draw(self, image: Image) -> None:
        """Draws onto the image; leaves out a panel that would be too small to read.

        Args:
            image: uint8, (H, W, 3), RGB; changed in place.
        """
        panel = self._panel(image.shape[0], image.shape[1])
        if panel is None:
            return
        colors, keep = panel
        height, width = colors.shape[:2]
        margin = max(2, image.shape[0] // 64)
        top = image.shape[0] - height - margin
        corner = image[top : top + height, margin : margin + width]
        corner[:] = cv2.add(cv2.multiply(corner, keep, dtype=cv2.CV_8U), colors)

    def _make_panel(self, image_height: int, image_width: int) -> tuple[Image, Float] | None:
        """The panel's share of the picture and the image's share, for an image of that size."""
        row = max(SMALLEST_ROW, min(40, image_height // ROWS_PER_IMAGE))
        while row >= SMALLEST_ROW:
            rows = max(1, min(len(self._labels), int(image_height * SHARE_OF_HEIGHT / row) - 1))
            columns = -(-len(self._labels) // rows)
            rows = -(-len(self._labels) // columns)
            colors, alpha = self._draw(row, rows, columns)
            height, width = alpha.shape
            if width <= image_width * SHARE_OF_WIDTH and height <= image_height * SHARE_OF_HEIGHT:
                share = np.repeat(alpha[..., None], 3, axis=2)
                return (colors * share).round().astype(np.uint8), (1 - share).astype(np.float32)
            row -= 1
        return None

    def _draw(self, row: int, rows: int, columns: int) -> tuple[Float, Float]:
        """Colours 0..255 and opacities 0..1 of the panel, of `row` pixels a line."""
        unit = row * SUPERSAMPLING
        scale = 0.48 * unit / FONT_HEIGHT
        stroke = max(1, round(unit * 0.07))
        pad, swatch, gap = unit // 2, round(unit * 0.62), round(unit * 0.35)
        names = [_printable(label.name) for label in self._labels]
        widths = [cv2.getTextSize(name, FONT, scale, stroke)[0][0] for name in names]
        columns_of = [range(c * rows, min((c + 1) * rows, len(names))) for c in range(columns)]
        column_widths = [swatch + gap + max(widths[i] for i in column) for column in columns_of]

        width = 2 * pad + sum(column_widths) + (columns - 1) * unit
        height = rows * unit + unit // 2
        width, height = (-(-x // SUPERSAMPLING) * SUPERSAMPLING for x in (width, height))
        colors = np.full((height, width, 3), PANEL_COLOR, np.uint8)
        alpha = np.zeros((height, width), np.float32)
        _fill_rounded(alpha, unit // 2, PANEL_OPACITY)

        left = pad
        for column, column_width in zip(columns_of, column_widths, strict=True):
            for line, index in enumerate(column):
                top = unit // 4 + line * unit + (unit - swatch) // 2
                box = ((left, top), (left + swatch, top + swatch))
                baseline = (left + swatch + gap, top + swatch // 2 + round(scale * FONT_HEIGHT / 2))
                for target, fill, edge, ink in (
                    (colors, self._labels[index].color, SWATCH_BORDER, TEXT_COLOR),
                    (alpha, 1.0, 1.0, 1.0),
                ):
                    cv2.rectangle(target, *box, fill, -1)
                    cv2.rectangle(target, *box, edge, max(1, SUPERSAMPLING // 2))
                    cv2.putText(target, names[index], baseline, FONT, scale, ink, stroke)
            left += column_width + unit
        size = (width // SUPERSAMPLING, height // SUPERSAMPLING)
        small = cv2.resize(colors.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        return small, cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)


def _fill_rounded(canvas: Float, radius: int, value: float) -> None:
    height, width = canvas.shape
    cv2.rectangle(canvas, (radius, 0), (width - radius - 1, height), value, -1)
    cv2.rectangle(canvas, (0, radius), (width, height - radius - 1), value, -1)
    for x in (radius, width - radius - 1):
        for y in (radius, height - radius - 1):
            cv2.circle(canvas, (x, y), radius, value, -1)


def _printable(name: str) -> str:
    """The name in the characters that OpenCV's font has: ASCII."""
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    return (
        "".join(c for c in plain if not unicodedata.combining(c))
        .encode("ascii", "replace")
        .decode()
    )
