"""A TensorRTReport in words, for a terminal 100 columns wide."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Collection, Iterable

from segkit.export.tensorrt_ops import short_reason
from segkit.export.tensorrt_report import TensorRTReport

__all__ = ["render"]

WIDTH = 100  # characters
MAX_LAYERS = 40  # the JSON has all
MAX_LAYER_LENGTH = 40  # characters
PREDICTION = (
    "A prediction: TF-TRT's own segmenter decided it, without TensorRT and a GPU. It is not "
    "confirmed by Converter.summary(), and no engine was built."
)


def render(report: TensorRTReport) -> str:
    """The report as text of several lines."""
    return "\n".join(_text(report))


def _text(report: TensorRTReport) -> Iterable[str]:
    engines = len(report.segments)
    yield f"{report.subject}: {engines} TensorRT engine{'s' if engines != 1 else ''} predicted"
    inside = sum(n for _, n in report.ops.values())
    total = sum(n for n, _ in report.ops.values())
    yield (
        f"{inside:,} of {total:,} ops in engines ({report.converted_share:.1%}; constants not "
        f"counted), minimum_segment_size {report.minimum_segment_size}"
    )
    yield from _ops_text(report)
    if report.splitting:
        yield from _splits_text(report)
    if report.too_small:
        yield ""
        yield "would convert, but in segments too small for an engine (or beyond the 20 biggest)"
        yield from _wrapped(", ".join(map(_clipped, report.too_small[:MAX_LAYERS])), "  ")
        yield from _more(report.too_small)
    if report.segments:
        yield ""
        yield "engine   nodes    ops   from layer -> to layer"
    for number, part in enumerate(report.segments, start=1):
        yield (
            f"{number:6}  {part.num_nodes:6,} {part.num_ops:6,}   "
            f"{_clipped(part.first_layer)} -> {_clipped(part.last_layer)}"
        )
    yield ""
    yield from _wrapped(PREDICTION, "")


def _ops_text(report: TensorRTReport) -> Iterable[str]:
    splits = Counter(op.op for op in report.splitting)
    reasons = {op.op: short_reason(op.reason) for op in reversed(report.refused)}
    yield ""
    yield f"{'op':26} {'count':>6} {'converts':>9} {'stays':>6} {'splits':>7}   why"
    for op, (count, inside) in report.ops.items():
        numbers = (count, inside, count - inside - splits[op], splits[op])
        columns = [str(number) if number else "-" for number in numbers]
        why = reasons.get(op, "" if count == inside else "its segment is too small")
        line = "{:26} {:>6} {:>9} {:>6} {:>7}   ".format(op, *columns)
        yield from _wrapped(line + why, " " * len(line), first="")


def _splits_text(report: TensorRTReport) -> Iterable[str]:
    remedies = list(dict.fromkeys(op.remedy for op in report.splitting))
    ops_of_layer: dict[str, dict[str, None]] = {}
    for op in report.splitting:
        what = f"{op.op} [{remedies.index(op.remedy) + 1}]"
        ops_of_layer.setdefault(op.layer, {})[what] = None
    shown = list(ops_of_layer)[:MAX_LAYERS]
    width = max(len(_clipped(layer)) for layer in shown)
    yield ""
    yield "what splits it, by layer"
    for layer in shown:
        line = f"  {_clipped(layer):{width}}  "
        yield from _wrapped(line + ", ".join(ops_of_layer[layer]), " " * len(line), first="")
    yield from _more(ops_of_layer)
    for number, advice in enumerate(remedies, start=1):
        yield from _wrapped(f"  [{number}] {advice}", "      ", first="")


def _more(layers: Collection[str]) -> Iterable[str]:
    if len(layers) > MAX_LAYERS:
        yield f"  and {len(layers) - MAX_LAYERS} more: --json has them all"


def _clipped(layer: str) -> str:
    return layer if len(layer) <= MAX_LAYER_LENGTH else "..." + layer[3 - MAX_LAYER_LENGTH :]


def _wrapped(text: str, indent: str, *, first: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        drop_whitespace=True,
        break_on_hyphens=False,
    )
