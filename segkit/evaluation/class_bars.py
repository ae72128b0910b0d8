"""A bar chart of the IoU of every class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from segkit.evaluation.contact_sheet import INK, MUTED, PAPER, RULE
from segkit.evaluation.scores import Scores
from segkit.labels import LabelMap
from segkit.runs import replacing

__all__ = ["BAR", "MARK", "style_bars", "write_class_bars"]

BAR, MARK = "#2f6fb0", "#d55e00"


def write_class_bars(path: Path, scores: Scores, labels: LabelMap) -> None:
    """Draws IoU (bars) and boundary IoU (marks) by class as a PNG, the best class on top.

    Args:
        path: The file to write.
        scores: Of a split.
        labels: Its classes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class_iou = scores.matrix.class_iou
    order = np.argsort(np.nan_to_num(class_iou, nan=-1), kind="stable")
    rows = np.arange(labels.num_classes)
    figure = Figure(
        figsize=(8.0, 1.4 + 0.3 * labels.num_classes),
        dpi=110,
        facecolor=PAPER,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.barh(rows, np.nan_to_num(class_iou[order]), height=0.62, color=BAR, label="IoU")
    axes.plot(
        scores.boundary_iou.by_class[order], rows, "|", color=MARK, markersize=11,
        markeredgewidth=2.4, label="boundary IoU",
    )  # fmt: skip
    axes.axvline(scores.matrix.mean_iou, color=INK, linewidth=1.0, linestyle=":")
    for row, id_ in enumerate(order):
        known = np.isfinite(class_iou[id_])
        text = f"{class_iou[id_]:.3f}" if known else "in neither truth nor prediction"
        axes.text(1.01 if known else 0.01, row, text, va="center", fontsize=8, color=MUTED)
    axes.set_yticks(rows, [labels.names[id_] for id_ in order], fontsize=9, color=INK)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, labels.num_classes - 0.4)
    axes.set_title(
        f"IoU by class, mean {scores.matrix.mean_iou:.3f} (dotted)",
        loc="left",
        fontsize=11,
        color=INK,
    )
    style_bars(axes)
    with replacing(path) as incoming:
        figure.savefig(incoming, format="png")


def style_bars(axes: Any) -> None:
    """Gives a chart of horizontal bars its legend and grid, and no more frame than it needs."""
    axes.legend(loc="lower right", fontsize=8, frameon=True)
    axes.grid(axis="x", color=RULE)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(length=0, labelcolor=MUTED)
