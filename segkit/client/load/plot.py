"""Plots of the load generator's figures. matplotlib is imported only here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segkit.client.load.figures import Figures
from segkit.client.load.sweep import Sweep
from segkit.runs import replacing

__all__ = ["plot_run", "plot_sweep"]

INK, MUTED, RULE = "#1b1f24", "#5b636d", "#d9dde2"
LINES = {"p50": "#9ecae1", "p90": "#4292c6", "p99": "#08519c"}
DEADLINE, HELD, MISSED = "#c0392b", "#2e7d32", "#c0392b"


def plot_run(path: Path, figures: Figures) -> None:
    """Latency by percentile; where requests were never answered, the curve ends.

    Args:
        path: The PNG to write.
        figures: Of at least one request.
    """
    figure, axes = _axes(f"Latency: {figures.load}")
    count = len(figures.latencies_ms)
    answered = [ms for ms in figures.latencies_ms if math.isfinite(ms)]
    # The k-th of n is what a share of (k + 1) / n is not slower than; the last one has no slower.
    slower = [max(1 - (k + 1) / count, 0.5 / count) for k in range(len(answered))]
    axes.step(slower, answered, where="pre", color=LINES["p99"], linewidth=1.8)
    axes.set_xscale("log")
    axes.set_xlim(1, 0.4 / count)
    ticks = [0.9, 0.5, 0.1, 0.01, 0.001, 0.0001]
    ticks = [tick for tick in ticks if tick > 0.4 / count]
    axes.set_xticks(ticks, [f"{100 * (1 - tick):g} %" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("share of the requests that took no longer", color=MUTED)
    _deadline(axes, figures.deadline_ms)
    title = f"{figures.requests:,} requests, {figures.missed_share:.2%} missed"
    failed = sum(figures.errors.values())
    title += f", {failed:,} of them never answered" if failed else ""
    title += "" if figures.valid else ", INVALID: the generator was late"
    axes.set_title(title, color=MUTED, loc="left", fontsize=9)
    _save(figure, path)


def plot_sweep(path: Path, found: Sweep) -> None:
    """Percentiles of latency against cameras, each step marked as held or missed.

    Args:
        path: The PNG to write.
        found: A sweep of at least one step with requests.
    """
    steps = [step for step in found.steps if step.figures.requests]
    # A number that ran twice counts as its verification did.
    latest = sorted({step.cameras: step.figures for step in steps}.items())
    figure, axes = _axes("Latency by cameras")
    for name, color in LINES.items():
        points = [(cameras, figures.latency_ms[name]) for cameras, figures in latest]
        _draw(axes.plot, [point for point in points if math.isfinite(point[1])], color, label=name)
    known = [ms for _, figures in latest for ms in figures.latency_ms.values() if ms < math.inf]
    above = 1.5 * max([figures.deadline_ms for _, figures in latest] + known)
    for holds, color, marker in ((True, HELD, "o"), (False, MISSED, "x")):
        marks = [
            (step.cameras, min(step.figures.latency_ms["p99"], above))
            for step in steps
            if step.figures.holds is holds
        ]
        name = "held" if holds else "not held"
        _draw(axes.scatter, marks, color, marker=marker, label=name, zorder=3)
    for cameras, figures in latest:
        if figures.latency_ms["p99"] == math.inf:
            axes.annotate(
                "p99: never",
                (cameras, above),
                xytext=(-6, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                color=MISSED,
                fontsize=8,
            )
    axes.set_xlabel("cameras", color=MUTED)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _deadline(axes, steps[0].figures.deadline_ms)
    axes.set_title(f"{found.cameras:,} held", color=MUTED, loc="left", fontsize=9)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    _save(figure, path)


def _draw(
    draw: Callable[..., Any], points: Sequence[tuple[int, float]], color: str, **style: Any
) -> None:
    """Draws points where there are any, and names them in the legend only then."""
    if points:
        draw([x for x, _ in points], [y for _, y in points], color=color, **style)


def _axes(title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    figure.suptitle(title, color=INK, x=0.02, ha="left", fontsize=12)
    axes = figure.add_subplot()
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_ylabel("latency, ms", color=MUTED)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _deadline(axes: Any, deadline_ms: float) -> None:
    axes.axhline(deadline_ms, color=DEADLINE, linewidth=1, linestyle="--")
    axes.annotate(
        f"deadline {deadline_ms:.4g} ms",
        (0.01, deadline_ms),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        color=DEADLINE,
        fontsize=8,
    )


def _save(figure: Any, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with replacing(path) as incoming:
        figure.savefig(incoming, format="png")
