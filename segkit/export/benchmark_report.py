"""The figures of `benchmark` as a table of text and as a picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from segkit.evaluation.class_bars import BAR, MARK, style_bars
from segkit.evaluation.contact_sheet import INK, MUTED, PAPER
from segkit.export.benchmark import KERAS, Figures, FormatRow, images_per_second
from segkit.runs import replacing

__all__ = ["render", "write_plot"]

MB = 1e6
OTHER = "#9aa0a6"
HEAD = (
    f"{'format':<20}{'status':<9}{'size MB':>8}{'mean_iou':>10}{'agreement':>11}{'batch':>7}"
    f"{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'images/s':>10}"
)


def render(figures: Figures) -> str:
    """A table of a line for each form and batch size; what was left out says why."""
    return "\n".join(_lines(figures))


def _lines(figures: Figures) -> Iterable[str]:
    yield HEAD
    for row in figures.rows:
        yield from _row_lines(row)
    yield ""
    yield (
        f"on {figures.device}; {figures.num_images} images of {figures.source}; all took turns. "
        "agreement: share of"
    )
    yield (
        f"pixels with the class that {KERAS}, the checkpoint itself, gives. uint8 images in, "
        "uint8 class ids out."
    )


def _row_lines(row: FormatRow) -> Iterable[str]:
    start = f"{row.name:<20}{row.status:<9}"
    if row.status != "ok":
        yield f"{start}{row.reason}"
        return
    size = "-" if row.size_bytes is None else f"{row.size_bytes / MB:.1f}"
    mean_iou = "-" if row.mean_iou is None else f"{row.mean_iou:.4f}"
    share = "-" if row.agreement is None else f"{row.agreement.share:.3%}"
    start += f"{size:>8}{mean_iou:>10}{share:>11}"
    for latency in row.latencies:
        times = "".join(f"{ms:>9.1f}" for ms in (latency.p50_ms, latency.p90_ms, latency.p99_ms))
        yield f"{start}{latency.batch_size:>7}{times}{images_per_second(latency):>10.1f}"
        start = " " * len(start)


def write_plot(path: Path, figures: Figures) -> None:
    """Draws p50 (bars) and p99 (marks) of batch size 1 as a PNG, the fastest on top.

    The first batch size stands in where 1 was not measured.

    Args:
        path: The file to write.
        figures: With one row at least that is ok.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in figures.rows if row.latencies]
    rows.sort(key=lambda row: row.latencies[0].p50_ms, reverse=True)
    figure = Figure(
        figsize=(9.0, 1.5 + 0.42 * len(rows)), dpi=110, facecolor=PAPER, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = range(len(rows))
    p50, p99 = ([getattr(row.latencies[0], key) for row in rows] for key in ("p50_ms", "p99_ms"))
    colors = [BAR if row.name != KERAS else OTHER for row in rows]
    axes.barh(places, p50, height=0.6, color=colors, label="p50")
    axes.plot(p99, places, "|", color=MARK, markersize=13, markeredgewidth=2.4, label="p99")
    for place, row in zip(places, rows, strict=True):
        axes.text(max(p99) * 1.03, place, _caption(row), va="center", fontsize=8, color=MUTED)
    axes.set_yticks(places, [row.name for row in rows], fontsize=9, color=INK)
    axes.set_xlim(0, max(p99) * 1.75)
    axes.set_xlabel("ms", color=MUTED)
    axes.set_title(
        f"One batch of {rows[0].latencies[0].batch_size}, {figures.device}",
        loc="left",
        fontsize=11,
        color=INK,
    )
    style_bars(axes)
    with replacing(path) as incoming:
        figure.savefig(incoming, format="png")


def _caption(row: FormatRow) -> str:
    words = [f"{row.latencies[0].p50_ms:.1f} ms"]
    if row.mean_iou is not None:
        words.append(f"mean_iou {row.mean_iou:.3f}")
    if row.agreement is not None and row.name != KERAS:
        words.append(f"same class {row.agreement.share:.2%}")
    return ", ".join(words)
