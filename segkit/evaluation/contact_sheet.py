"""A contact sheet: moments of a video beside what was predicted, with the figures of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segkit.labels import LabelMap

__all__ = ["Moment", "write_contact_sheet"]

Image = npt.NDArray[np.uint8]

INK, MUTED, PAPER, RULE = "#1d2733", "#6b7785", "#ffffff", "#e3e8ee"
WIDTH_INCHES, DPI = 13.0, 120
HEADER, FOOTER, CAPTION = 1.25, 2.3, 0.32  # inches
MARGIN, GAP = 0.45, 0.1  # inches


@dataclass(frozen=True)
class Moment:
    """One frame of a video and its masks.

    Args:
        time_s: Its presentation time.
        image: uint8, (H, W, 3), RGB.
        prediction: Class ids, uint8, (H, W).
        overlay: The image as the output video shows it, uint8, (H, W, 3), RGB.
        truth: Class ids, uint8, (H, W), or None where nobody knows them.
    """

    time_s: float
    image: Image
    prediction: Image
    overlay: Image
    truth: Image | None = None


def write_contact_sheet(
    path: Path,
    moments: Sequence[Moment],
    labels: LabelMap,
    *,
    title: str,
    subtitle: str,
    figures: Sequence[tuple[str, str]],
    class_iou: npt.NDArray[np.float64] | None = None,
) -> None:
    """Draws the sheet as a PNG.

    Args:
        path: The file to write.
        moments: One row of pictures each.
        labels: Names and colours of the classes.
        title: The first line.
        subtitle: The second.
        figures: Value and caption of the numbers in the footer, such as ("0.84", "mean IoU").
        class_iou: IoU by class, drawn as bars; without it the footer only names the classes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = ["camera", "truth", "prediction", "overlay"]
    if moments[0].truth is None:
        columns.remove("truth")
    height, width = moments[0].image.shape[:2]
    cell_width = (WIDTH_INCHES - 2 * MARGIN - GAP * (len(columns) - 1)) / len(columns)
    cell_height = cell_width * height / width
    total = HEADER + CAPTION + len(moments) * (cell_height + GAP) + FOOTER

    sheet = Figure(figsize=(WIDTH_INCHES, total), dpi=DPI, facecolor=PAPER)
    page = _Page(sheet, WIDTH_INCHES, total)
    page.text(MARGIN, 0.6, title, size=21, weight="bold", color=INK)
    page.text(MARGIN, 0.95, subtitle, size=11, color=MUTED)
    palette = labels.palette()
    for column, caption in enumerate(columns):
        x = MARGIN + column * (cell_width + GAP)
        page.text(x, HEADER + 0.2, caption, size=10, color=MUTED)
        for row, moment in enumerate(moments):
            y = HEADER + CAPTION + row * (cell_height + GAP)
            page.picture(_picture(moment, caption, palette), x, y, cell_width, cell_height)
            if column == 0:
                page.text(
                    x + 0.08, y + cell_height - 0.1, f"{moment.time_s:.1f} s", size=9, color="white"
                )
    _footer(page, total - FOOTER, labels, figures, class_iou)
    FigureCanvasAgg(sheet)
    sheet.savefig(path, format="png")


class _Page:
    """A figure addressed in inches from its top left corner, as a page is laid out."""

    def __init__(self, sheet: Any, width: float, height: float) -> None:
        self.sheet, self.width, self.height = sheet, width, height

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        self.sheet.text(x / self.width, 1 - y / self.height, text, **style)

    def axes(self, x: float, y: float, width: float, height: float) -> Any:
        box = (
            x / self.width,
            1 - (y + height) / self.height,
            width / self.width,
            height / self.height,
        )
        axes = self.sheet.add_axes(box)
        axes.set_axis_off()
        return axes

    def picture(self, image: Image, x: float, y: float, width: float, height: float) -> None:
        self.axes(x, y, width, height).imshow(image, interpolation="antialiased", aspect="auto")


def _picture(moment: Moment, caption: str, palette: Image) -> Image:
    if caption == "camera":
        return moment.image
    if caption == "overlay":
        return moment.overlay
    mask = moment.truth if caption == "truth" else moment.prediction
    assert mask is not None
    return palette[mask]


def _footer(
    page: _Page,
    top: float,
    labels: LabelMap,
    figures: Sequence[tuple[str, str]],
    class_iou: npt.NDArray[np.float64] | None,
) -> None:
    for index, (value, caption) in enumerate(figures):
        x = MARGIN + 1.45 * index
        page.text(x, top + 0.95, value, size=20, weight="bold", color=INK)
        page.text(x, top + 1.22, caption, size=10, color=MUTED)
    left = MARGIN + 1.45 * len(figures) + 0.4
    axes = page.axes(left, top + 0.35, page.width - left - MARGIN, FOOTER - 0.75)
    columns = 2 if labels.num_classes > 4 else 1
    rows = -(-labels.num_classes // columns)
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    for id_, label in enumerate(labels.labels):
        x, y = float(id_ // rows), id_ % rows + 0.5
        color = tuple(channel / 255 for channel in label.color)
        _swatch(axes, (x, y - 0.28), 0.035, 0.56, color)
        axes.text(x + 0.055, y, label.name, va="center", size=10, color=INK)
        if class_iou is not None and not np.isfinite(class_iou[id_]):
            axes.text(x + 0.42, y, "in neither: not counted", va="center", size=9, color=MUTED)
        elif class_iou is not None:
            iou = float(class_iou[id_])
            _swatch(axes, (x + 0.42, y - 0.16), 0.38, 0.32, RULE)
            _swatch(axes, (x + 0.42, y - 0.16), 0.38 * iou, 0.32, color)
            axes.text(x + 0.82, y, f"{iou:.2f}", va="center", size=10, color=INK)


def _swatch(
    axes: Any, corner: tuple[float, float], width: float, height: float, color: Any
) -> None:
    from matplotlib.patches import Rectangle

    # A thin edge keeps black, white and pale classes visible on the paper.
    axes.add_patch(Rectangle(corner, width, height, facecolor=color, edgecolor=RULE, linewidth=0.6))
