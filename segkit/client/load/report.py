"""Figures of the load generator as text."""

from __future__ import annotations

import math

from segkit.client.load.figures import COMPLETE, FAILED, INTERRUPTED, LATE_SHARE, Figures
from segkit.client.load.sweep import CLIENT, LARGEST, SERVER, STOPPED, Step, Sweep

__all__ = ["STEP_HEADER", "conclusion", "render", "step_line"]

COLUMNS = ("cameras", "requests", "p50", "p90", "p99", "p99.9", "max", "missed", "fps", "")
WIDTHS = (7, 9, 8, 8, 8, 8, 8, 8, 8, 0)


def render(figures: Figures) -> str:
    """One run, a line for each question."""
    begin = f"{figures.load}: {figures.seconds:.3g} s measured, {figures.warmup_s:.3g} s before"
    lines = [f"{begin} not counted"]
    if figures.ended != COMPLETE:
        lines.append(f"{figures.ended}: the figures are of what was measured until then")
    if not figures.requests:
        return "\n".join([*lines, "nothing was measured"])
    late = figures.lateness_ms
    answered = figures.requests - sum(figures.errors.values())
    lines += [
        f"requests   {figures.requests:,} due, {answered:,} answered{_errors(figures)}",
        "latency    "
        + "   ".join(f"{name} {_ms(ms)}" for name, ms in figures.latency_ms.items())
        + " ms, from when each was due",
        f"missed     {figures.missed_share:.2%}: later than {figures.deadline_ms:.4g} ms, refused, "
        "or never answered",
        f"a second   {figures.offered_fps:.4g} due, {figures.answered_fps:.4g} answered, "
        f"{figures.goodput_fps:.4g} in time",
        f"a frame    {figures.sent_bytes:,.0f} bytes up, {figures.received_bytes:,.0f} down, "
        f"{figures.cpu_ms:.3g} ms of this process's CPU",
        "generator  late by "
        + "   ".join(f"{name} {_ms(ms)}" for name, ms in late.items())
        + " ms",
    ]
    if not figures.valid:
        lines.append(
            f"INVALID: the generator was later than {LATE_SHARE:.0%} of the deadline; these are "
            "figures of this machine, not of the server. Send less, or from an idle machine"
        )
    return "\n".join(lines)


def step_line(step: Step) -> str:
    """A step of a sweep as a row of a table."""
    figures = step.figures
    points = [_ms(ms) for ms in figures.latency_ms.values()] or ["-"] * 5
    cells = [
        f"{step.cameras:,}",
        f"{figures.requests:,}",
        *points,
        f"{figures.missed_share:.2%}",
        f"{figures.answered_fps:.4g}",
    ]
    return _row([*cells, _verdict(step)])


def conclusion(found: Sweep, *, fps: float) -> str:
    """What a sweep found, in a sentence."""
    cameras = f"{found.cameras:,} camera{'' if found.cameras == 1 else 's'} at {fps:.4g} fps"
    if found.limited_by == STOPPED:
        return f"interrupted: {cameras} were held until then, not verified"
    text = f"held: {cameras}, with p99 within {1e3 / fps:.4g} ms, verified by a run of its own"
    if not found.cameras:
        text = f"held: not a single camera at {fps:.4g} fps with p99 within {1e3 / fps:.4g} ms"
    return {
        SERVER: text,
        CLIENT: f"{text}. The server may hold more: this generator was late with more of them",
        LARGEST: f"{text}. The server may hold more: no more were tried (--max_cameras)",
    }[found.limited_by]


def _verdict(step: Step) -> str:
    figures = step.figures
    if figures.ended == INTERRUPTED:
        return INTERRUPTED
    if not figures.valid:
        return "invalid: the generator was late"
    if figures.holds:
        return "held again" if step.verifies else "held"
    early = ", stopped early" if figures.ended == FAILED else ""
    return f"missed{early}{_errors(figures)}"


def _errors(figures: Figures) -> str:
    return "".join(f", {count:,} {kind}" for kind, count in sorted(figures.errors.items()))


def _ms(value: float) -> str:
    """Milliseconds, at a width that a column has."""
    if not math.isfinite(value):
        return "never"
    return f"{value:,.0f}" if value >= 100 else f"{round(value, 3):.3g}"


def _row(cells: list[str]) -> str:
    return "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


STEP_HEADER = _row(list(COLUMNS))
