"""What a check of a labelled set found, as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from segkit.data.reader import Finding, Kind
from segkit.labels import IGNORE_ID, LabelMap

__all__ = ["MADE_BY", "WARNINGS", "Counts", "Report", "SplitReport"]

# Stands at the head of what is written, so that it is known again.
MADE_BY = "segkit check-data"
# What deserves a look and no refusal; every other kind is an error.
WARNINGS = frozenset(
    {Kind.SAME_PICTURE, Kind.CLASS_NEVER_SEEN, Kind.NOTHING_LABELLED, Kind.EMPTY_SPLIT}
)

_SHOWN = 10
_SIZES_SHOWN = 5

Counts = npt.NDArray[np.int64]


def _zeros() -> Counts:
    return np.zeros(256, np.int64)


@dataclass
class SplitReport:
    """What the images of one split hold.

    Attributes:
        images: Number of images.
        loaded: Number of those that could be read; the counts are of these.
        pixels: Pixels of each class id, int64, (256,); those of IGNORE_ID are ignored.
        images_with: Images that have each class id, likewise.
        images_of: Images in which all that is labelled is of one class, likewise.
    """

    images: int = 0
    loaded: int = 0
    pixels: Counts = field(default_factory=_zeros)
    images_with: Counts = field(default_factory=_zeros)
    images_of: Counts = field(default_factory=_zeros)

    def add(self, counts: Counts) -> None:
        """Counts a mask with these pixels of each class id."""
        self.loaded += 1
        self.pixels += counts
        self.images_with += counts > 0
        labelled = np.flatnonzero(counts[:IGNORE_ID])
        if len(labelled) == 1:
            self.images_of[labelled] += 1


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a set holds, and what is wrong with it.

    Attributes:
        labels: The classes.
        splits: Name -> what it holds: "train", "val", "test"; "all" where the set has no splits,
            "no split" for what has none beside others.
        sizes: (height, width) -> number of images.
        findings: All that is wrong, kind after kind, errors before warnings.
    """

    labels: LabelMap
    splits: Mapping[str, SplitReport]
    sizes: Mapping[tuple[int, int], int]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings with which nobody should train."""
        return tuple(finding for finding in self.findings if finding.kind not in WARNINGS)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that deserve a look."""
        return tuple(finding for finding in self.findings if finding.kind in WARNINGS)

    @property
    def verdict(self) -> str:
        """How many of both, as in "no errors, 2 warnings"."""
        return f"{_count(len(self.errors), 'error')}, {_count(len(self.warnings), 'warning')}"

    def tables(self) -> str:
        """How often each class occurs, and the sizes of the images."""
        return "\n".join([*_class_table(self), *_sizes(self), *_images_of_one_class(self)])

    def faults(self) -> str:
        """Every kind of fault: the first files that have it, and what to do. "" without any."""
        kinds = dict.fromkeys(finding.kind for finding in self.findings)
        return "\n\n".join("\n".join(_fault(self, kind)) for kind in kinds)

    def json(self) -> str:
        """All of it, with every finding."""
        parts = self.splits.items()
        document = {
            "made_by": MADE_BY,
            "images": {name: part.images for name, part in parts},
            "loaded": {name: part.loaded for name, part in parts},
            "pixels": {name: self._by_class(part.pixels) for name, part in parts},
            "images_with": {name: self._by_class(part.images_with) for name, part in parts},
            "images_of": {name: self._by_class(part.images_of) for name, part in parts},
            "sizes": {f"{height}x{width}": count for (height, width), count in self.sizes.items()},
            "errors": [finding._asdict() for finding in self.errors],
            "warnings": [finding._asdict() for finding in self.warnings],
        }
        return json.dumps(document, indent=2) + "\n"

    def _by_class(self, counts: Counts) -> dict[str, int]:
        named = {name: int(counts[id_]) for id_, name in enumerate(self.labels.names)}
        return named | {"ignored": int(counts[IGNORE_ID])}


def _class_table(report: Report) -> Iterator[str]:
    width = max(len(name) for name in (*report.labels.names, "ignored"))
    counted = (f"{name} {part.images:,}" for name, part in report.splits.items())
    yield f"images: {'  '.join(counted) or 'none'}"
    if not report.splits:
        return
    yield "  id  class".ljust(width + 6) + "".join(f"{name:>20}" for name in report.splits)
    yield " " * (width + 6) + f"{'% pixels':>11}{'% img':>9}" * len(report.splits)
    for id_, name in [*enumerate(report.labels.names), (IGNORE_ID, "ignored")]:
        cells = "".join(_cells(part, id_) for part in report.splits.values())
        yield f"{id_:>4}  {name:<{width}}{cells}"


def _cells(part: SplitReport, id_: int) -> str:
    if not part.loaded:
        return f"{'-':>11}{'-':>9}"
    # Shares of the classes are of what is labelled; the ignored share is of everything.
    total = part.pixels.sum() if id_ == IGNORE_ID else part.pixels[:IGNORE_ID].sum()
    pixels = 100 * part.pixels[id_] / max(total, 1)
    return f"{pixels:>11.3g}{100 * part.images_with[id_] / part.loaded:>9.3g}"


def _sizes(report: Report) -> Iterator[str]:
    sizes = sorted(report.sizes, key=lambda size: (-report.sizes[size], size))
    shown = ", ".join(f"{_size(size)} ({report.sizes[size]:,})" for size in sizes[:_SIZES_SHOWN])
    if len(sizes) > _SIZES_SHOWN:
        by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
        shown += (
            f" and {len(sizes) - _SIZES_SHOWN:,} more, "
            f"from {_size(by_area[0])} to {_size(by_area[-1])}"
        )
    if shown:
        yield f"sizes, height x width: {shown}"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _images_of_one_class(report: Report) -> Iterator[str]:
    counts = sum((part.images_of for part in report.splits.values()), _zeros())
    found = sorted(np.flatnonzero(counts).tolist(), key=lambda id_: -int(counts[id_]))
    shown = [f"{report.labels.names[id_]} ({counts[id_]:,})" for id_ in found[:_SHOWN]]
    if shown:
        more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
        yield f"images of one class alone: {', '.join(shown)}{more}"


def _fault(report: Report, kind: Kind) -> Iterator[str]:
    same: Sequence[Finding] = [finding for finding in report.findings if finding.kind == kind]
    yield f"{'warning' if kind in WARNINGS else 'error'}: {kind} ({len(same):,})"
    for finding in same[:_SHOWN]:
        named = finding.file in finding.problem
        yield f"  {finding.problem}" if named else f"  {finding.file}: {finding.problem}"
    if len(same) > _SHOWN:
        yield f"  and {len(same) - _SHOWN:,} more"
    for next_step in dict.fromkeys(finding.next_step for finding in same[:_SHOWN]):
        if next_step:
            yield f"  next: {next_step}"


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
