"""Pictures of a training and of its errors: curves over the epochs, the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segkit.evaluation.contact_sheet import INK, MUTED, PAPER, RULE
from segkit.evaluation.metrics import ConfusionMatrix
from segkit.labels import LabelMap
from segkit.runs import replacing

__all__ = ["write_confusion_matrix", "write_curves"]

ACCENT = "#2f6fb0"
_CLASS_PREFIX = "val_iou_"
_NAMED_CLASSES = 40  # so many names can be read along a whole picture
_NUMBERED_CLASSES = 24  # so many leave room for numbers, or are read along half of one

Values = npt.NDArray[np.float64]


def write_curves(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws the rows of results.csv as a PNG.

    Args:
        path: The file to write.
        rows: One an epoch, one at least; values may be strings, as csv reads them.
    """
    from matplotlib.figure import Figure

    table = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    epochs = table["epoch"]
    names = [name for name in table if name.startswith(_CLASS_PREFIX)]
    figure = Figure(figsize=(13.0, 8.0), dpi=110, facecolor=PAPER, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 2), height_ratios=(1, 1.15))

    scores, title = table["val_mean_iou"], "val mean IoU"
    if np.isfinite(scores).any():
        best = int(np.nanargmax(scores))
        title += f", best {scores[best]:.3f} @ {epochs[best]:.0f}"
    score = _axes(figure, grid[0, 0], title)
    _curve(score, epochs, scores)
    if np.isfinite(scores).any():
        score.plot(epochs[best], scores[best], "o", color=INK, markersize=6)
    loss = _axes(figure, grid[0, 1], "train loss")
    _curve(loss, epochs, table["loss"])
    if (table["loss"] > 0).all():
        _scale_by_factors(loss)
    rate = _axes(figure, grid[1, 1], "learning rate, last step of the epoch")
    _curve(rate, epochs, table["learning_rate"])
    rate.set_xlabel("epoch", color=MUTED)
    rate.set_ylim(bottom=0)
    _classes_over_epochs(figure, grid[1, 0], epochs, {name: table[name] for name in names})
    _save(figure, path)


def write_confusion_matrix(path: Path, matrix: ConfusionMatrix, labels: LabelMap) -> None:
    """Draws a confusion matrix as a PNG: of each true class, where its pixels went.

    Args:
        path: The file to write.
        matrix: The counts. A class without true pixels has an empty row.
        labels: Its classes.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    counts = matrix.counts.astype(np.float64)
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)  # nan where a class has no pixels
    number = labels.num_classes
    side = min(4.2 + 0.42 * number, 18.0)  # inches; 4.2: two long names leave the title room
    figure = Figure(figsize=(side + 1.0, side), dpi=110, facecolor=PAPER, layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap=_colors(), vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(
        f"mean IoU {matrix.mean_iou:.3f}\nof each true class, % predicted as ...",
        color=INK,
        loc="left",
        fontsize=11,
    )
    axes.set_xlabel("predicted", color=MUTED)
    axes.set_ylabel("true", color=MUTED)
    _name_ticks(axes.xaxis, labels.names, most=_NAMED_CLASSES, rotation=90)
    _name_ticks(axes.yaxis, labels.names, most=_NAMED_CLASSES)
    if number <= _NUMBERED_CLASSES:
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.005:
                axes.text(
                    column,
                    row,
                    f"{100 * share:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if share > 0.55 else INK,
                )
    figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.01, format=PercentFormatter(1.0))
    _save(figure, path)


def _classes_over_epochs(
    figure: Any, cell: Any, epochs: Values, class_iou: Mapping[str, Values]
) -> None:
    """A row for each class, the best at the top in the end."""
    axes = _axes(figure, cell, "val IoU by class")
    if not class_iou:
        return
    order = sorted(class_iou, key=lambda name: -np.nan_to_num(class_iou[name][-1], nan=-1.0))
    values = np.stack([class_iou[name] for name in order])
    extent = (epochs[0] - 0.5, epochs[-1] + 0.5, len(order) - 0.5, -0.5)
    drawn = axes.imshow(
        values,
        cmap=_colors(),
        vmin=0,
        vmax=1,
        aspect="auto",
        extent=extent,
        interpolation="nearest",
    )
    names = [name.removeprefix(_CLASS_PREFIX) for name in order]
    _name_ticks(axes.yaxis, names, most=_NUMBERED_CLASSES)
    if len(order) <= _NUMBERED_CLASSES:
        for row, name in enumerate(order):
            axes.annotate(
                f"{class_iou[name][-1]:.2f}",
                (1.0, row),
                (4, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=INK,
            )
    axes.set_xlabel("epoch", color=MUTED)
    figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.06)


def _colors() -> Any:
    from matplotlib import colormaps

    return colormaps["Blues"].with_extremes(bad=RULE)


def _axes(figure: Any, cell: Any, title: str) -> Any:
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot(cell)
    axes.set_title(title, color=INK, loc="left", fontsize=11)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def _curve(axes: Any, epochs: Values, values: Values) -> None:
    marker = "o" if len(epochs) < 3 else None  # a line needs two points
    axes.plot(epochs, values, color=ACCENT, linewidth=1.6, marker=marker)
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)


def _scale_by_factors(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _name_ticks(axis: Any, names: Sequence[str], *, most: int, **style: Any) -> None:
    """Names every class, or every second, third, ... where they would overlap."""
    step = -(-len(names) // most)
    axis.set_ticks(range(0, len(names), step), names[::step], fontsize=8, color=INK, **style)
    axis.axes.grid(visible=False)


def _save(figure: Any, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with replacing(path) as incoming:
        figure.savefig(incoming, format="png")
