"""Legend: a panel of swatches and class names, readable on any image."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from segkit.labels import Label, LabelMap
from segkit.video.frame import Image

__all__ = ["Legend", "shown_labels"]

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
BLACK = (0, 0, 0)

Float = npt.NDArray[np.float32]


def shown_labels(labels: LabelMap) -> tuple[Label, ...]:
    """The classes that have a colour to show: black stands for the background."""
    return tuple(label for label in labels.labels if label.color != BLACK)


@dataclass(frozen=True)
class Legend:
    """Draws the panel into the lower left corner; its size follows the image's.

    Args:
        labels: What to name, in order; at least one.
    """

    labels: tuple[Label, ...]

    @classmethod
    def of(cls, labels: LabelMap) -> Legend | None:
        """The legend of the classes that have a colour to show; None where none has."""
        shown = shown_labels(labels)
        return cls(shown) if shown else None

    def draw(self, image: Image) -> None:
        """Draws onto the image; leaves out a panel that would be too small to read.

        Args:
            image: uint8, (H, W, 3), RGB; changed in place.
        """
        panel = _make_panel(self.labels, image.shape[0], image.shape[1])
        if panel is None:
            return
        colors, keep = panel
        height, width = colors.shape[:2]
        margin = max(2, image.shape[0] // 64)
        top = image.shape[0] - height - margin
        corner = image[top : top + height, margin : margin + width]
        corner[:] = cv2.add(cv2.multiply(corner, keep, scale=1 / 255), colors)


# Kept across legends, so that a control which changes an effect's opacity draws no panel anew.
@lru_cache(maxsize=8)
def _make_panel(
    labels: tuple[Label, ...], image_height: int, image_width: int
) -> tuple[Image, Image] | None:
    """What the panel adds to an image of that size, and 255 times the share that it leaves."""
    row = max(SMALLEST_ROW, min(40, image_height // ROWS_PER_IMAGE))
    while row >= SMALLEST_ROW:
        rows = max(1, min(len(labels), int(image_height * SHARE_OF_HEIGHT / row) - 1))
        columns = -(-len(labels) // rows)
        rows = -(-len(labels) // columns)
        colors, alpha = _draw(labels, row, rows, columns)
        height, width = alpha.shape
        if width <= image_width * SHARE_OF_WIDTH and height <= image_height * SHARE_OF_HEIGHT:
            share = np.repeat(alpha[..., None], 3, axis=2)
            keep = (255 * (1 - share)).round().astype(np.uint8)
            return (colors * share).round().astype(np.uint8), keep
        row -= 1
    return None


def _draw(labels: tuple[Label, ...], row: int, rows: int, columns: int) -> tuple[Float, Float]:
    """Colours 0..255 and opacities 0..1 of the panel, of `row` pixels a line."""
    unit = row * SUPERSAMPLING
    scale = 0.48 * unit / FONT_HEIGHT
    stroke = max(1, round(unit * 0.07))
    pad, swatch, gap = unit // 2, round(unit * 0.62), round(unit * 0.35)
    names = [_printable(label.name) for label in labels]
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
                (colors, labels[index].color, SWATCH_BORDER, TEXT_COLOR),
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
