"""How the values of a mask file become class ids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from segkit.data.images import MaskFile
from segkit.data.reader import Finding, Kind, SampleError
from segkit.errors import LabelMapError
from segkit.labels import IGNORE_ID, LabelMap, voc_color

__all__ = ["UNKNOWN", "MaskRule", "are_voc_greys", "id_table", "without_label"]

UNKNOWN = -1
_VOC_VOID = (224, 224, 192)

Color = tuple[int, int, int]
Table = npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class MaskRule:
    """Turns a mask file of a set into class ids.

    Args:
        labels: What the ids mean, and which colours stand for them.
        table: int16, (256,): class id of a value, IGNORE_ID, or UNKNOWN.
        colors: "never": masks hold values, and RGB ones must be grey. "also": RGB masks may hold
            label colours instead. "always": RGB masks do, and so do palettes that show label
            colours. Where it is not "always", a palette is decoration.
    """

    labels: LabelMap
    table: Table
    colors: Literal["never", "also", "always"] = "never"

    def __call__(self, mask: MaskFile, source: str) -> npt.NDArray[np.uint8]:
        """Class ids and IGNORE_ID, uint8, (H, W).

        Raises:
            SampleError: A value or a colour means nothing in this set.
        """
        values, palette = mask
        if values.ndim == 3:
            grey = values[..., 0]
            is_grey = not (values != grey[..., None]).any()
            if self.colors == "always" or (self.colors == "also" and not is_grey):
                return self._ids_from_colors(values, source)
            if not is_grey:
                raise self._has_colors(values, source)
            values, palette = grey, None
            if self.colors == "also":  # black and white may be label colours
                palette = np.arange(256, dtype=np.uint8).repeat(3).reshape(256, 3)
        elif self.colors != "always":
            palette = None
        used = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
        if palette is not None and _colors_in(palette[used]) <= self._declared():
            table = np.zeros(256, np.uint8)
            table[used] = self._ids_from_colors(palette[used][None], source)[0]
            return table[values]
        if (self.table[used] == UNKNOWN).any():
            raise self._has_unknown(values, used, source)
        return self.table.astype(np.uint8)[values]

    def _ids_from_colors(self, colors: npt.NDArray[np.uint8], source: str) -> npt.NDArray[np.uint8]:
        try:
            return self.labels.ids_from_colors(colors, source=source)
        except LabelMapError as err:
            kind, next_step = Kind.UNKNOWN_COLOR, err.next_step
            # CVAT gives labels colours of that palette too: only a mask that shows none of ours
            # comes from elsewhere.
            ours = _colors_in(colors) & self._declared() - {(0, 0, 0)}
            if not ours and _are_voc_colors(colors, self.labels.num_classes):
                kind, next_step = Kind.PALETTE_AS_COLORS, _KEEP_INDICES
            finding = Finding(kind, source, err.problem, next_step)
            raise SampleError(finding, expected=err.expected) from err

    def _declared(self) -> set[Color]:
        ignore = {self.labels.ignore.color} if self.labels.ignore else set()
        return {label.color for label in self.labels.labels} | ignore

    def _has_colors(self, values: npt.NDArray[np.uint8], source: str) -> SampleError:
        palette = _are_voc_colors(values, self.labels.num_classes)
        problem = f"mask '{source}' has colours" + (" of Pascal VOC's palette" if palette else "")
        finding = Finding(
            Kind.PALETTE_AS_COLORS if palette else Kind.UNKNOWN_COLOR,
            source,
            problem,
            _KEEP_INDICES
            if palette
            else "write class ids, or add a labelmap.txt that says what the colours mean",
        )
        return SampleError(finding, expected="class ids: a grey or a palette PNG")

    def _has_unknown(
        self, values: npt.NDArray[np.uint8], used: npt.NDArray[np.intp], source: str
    ) -> SampleError:
        unknown = used[self.table[used] == UNKNOWN]
        count = int(np.isin(values, unknown).sum())
        expected = (
            f"{_ranges(np.flatnonzero(self.table != UNKNOWN))} "
            f"(the set has {self.labels.num_classes} classes)"
        )
        problem = (
            f"mask '{source}' has {count:,} pixels of {_ranges(unknown)}, which no class of the "
            "label map has"
        )
        kind = Kind.UNKNOWN_ID
        next_step = "add the missing labels to the label map, or export the masks again"
        if len(used) > 1 and are_voc_greys(used.tolist(), self.labels.num_classes):
            kind, next_step = Kind.PALETTE_AS_COLORS, _KEEP_INDICES
        return SampleError(Finding(kind, source, problem, next_step), expected=expected)


_KEEP_INDICES = (
    "the masks were palette PNGs that a tool read as colours or as grey: take the originals, and "
    "copy them without decoding, or read their indices with Pillow"
)


def id_table(ids: Iterable[tuple[int, int]]) -> Table:
    """A table for MaskRule from pairs of value and class id; 255 is ignored, others UNKNOWN."""
    table = np.full(256, UNKNOWN, np.int16)
    table[IGNORE_ID] = IGNORE_ID
    for value, id_ in ids:
        table[value] = id_
    return table


def without_label(labels: LabelMap, table: Table, name: str | None) -> tuple[LabelMap, Table]:
    """Takes a class out of a fixed label map: its pixels are ignored, later ids move up.

    Args:
        labels: The classes.
        table: Class ids by value.
        name: The class; None changes nothing.

    Raises:
        LabelMapError: There is no such class.
    """
    if name is None:
        return labels, table
    if name not in labels.names:
        raise LabelMapError(
            f"the ignore label '{name}' is not a class of the set",
            expected="one of " + ", ".join(labels.names),
        )
    id_ = labels.names.index(name)
    kept = tuple(label for label in labels.labels if label.name != name)
    moved = table - ((table > id_) & (table != IGNORE_ID))
    moved[table == id_] = IGNORE_ID
    return LabelMap(kept, labels.labels[id_]), moved.astype(np.int16)


def are_voc_greys(values: Iterable[int], num_classes: int = 0) -> bool:
    """Whether Pascal VOC's palette, read as grey, has all these values."""
    return set(values) <= _voc_greys(num_classes)


def _voc_colors(num_classes: int) -> list[Color]:
    return [*map(voc_color, range(max(num_classes, 21))), _VOC_VOID]


@cache
def _voc_greys(num_classes: int) -> frozenset[int]:
    """What the first colours of Pascal VOC's palette become where a tool makes them grey."""
    # ITU-R BT.601 luma, as Pillow, OpenCV and TensorFlow round it.
    return frozenset(
        grey
        for red, green, blue in _voc_colors(num_classes)
        for luma in [0.299 * red + 0.587 * green + 0.114 * blue]
        for grey in (int(luma), int(luma + 0.5))
    )


def _are_voc_colors(colors: npt.NDArray[np.uint8], num_classes: int) -> bool:
    return _colors_in(colors) <= {*_voc_colors(num_classes)}


def _colors_in(colors: npt.NDArray[np.uint8]) -> set[Color]:
    found = np.unique(colors.reshape(-1, 3), axis=0).tolist()
    return {(red, green, blue) for red, green, blue in found}


def _ranges(values: Iterable[int]) -> str:
    """1, 2, 3, 7 as "1..3, 7"; for messages."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = int(value)
        else:
            runs.append([int(value), int(value)])
    shown = [str(a) if a == b else f"{a}..{b}" for a, b in runs[:8]]
    return ("values " if len(runs) > 1 or runs[0][0] != runs[0][1] else "value ") + ", ".join(
        [*shown, "..."] if len(runs) > 8 else shown
    )
