"""Readers of labelled sets, one module a kind, chosen by KIND:PATH."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from segkit.data.reader import Reader
from segkit.data.readers import (
    ade20k,
    camvid,
    cityscapes,
    cvat,
    folder,
    full_semantic,
    voc,
)
from segkit.data.tree import open_tree
from segkit.errors import ConfigError, DataError

__all__ = ["READERS", "open_reader", "parse_kind"]

# KIND -> its function. A new kind is one module and one line, here and in _MARKERS.
READERS: Mapping[str, Callable[..., Reader]] = {
    "cvat": cvat.read,
    "folder": folder.read,
    "full_semantic": full_semantic.read,
    "cityscapes": cityscapes.read,
    "camvid": camvid.read,
    "ade20k": ade20k.read,
    "voc": voc.read,
}
# Parts of names that tell the kinds apart; the first that fits is what a set looks like.
_MARKERS = (
    ("full_semantic", ("dataset_info.json",)),
    ("cityscapes", ("leftImg8bit/", "gtFine/")),
    ("camvid", ("trainannot/",)),
    ("camvid", ("_L.png",)),
    ("ade20k", ("annotations/training/",)),
    ("cvat", ("labelmap.txt", "SegmentationClass/")),
    ("voc", ("ImageSets/Segmentation/", "SegmentationClass/")),
    ("full_semantic", ("rgb/", "gt/")),
    ("full_semantic", ("RGB/", "MASK/")),
    ("folder", ("images/", "masks/")),
)


def parse_kind(data: str) -> tuple[str, Path]:
    """Takes KIND:PATH apart.

    Raises:
        ConfigError: There is no such kind, or no path; the message says which kind it looks like.
    """
    kind, colon, path = data.partition(":")
    if kind in READERS and path:
        return kind, Path(path).expanduser()
    problem = f"'{data}' names no kind of set"
    if colon and path:
        problem = f"there is no kind of set '{kind}'"
    elif colon:
        problem = f"'{data}' names no path"
    there = path or data.removesuffix(":")
    place = Path(there).expanduser()
    seems = _looks_like(place) if place.exists() else None
    raise ConfigError(
        problem,
        expected=f"KIND:PATH with KIND one of {', '.join(READERS)}",
        next_step=f"it looks like {seems}: '{seems}:{there}'" if seems else "",
    )


def open_reader(data: str, *, ignore: str | None = None, background: str | None = None) -> Reader:
    """Opens a labelled set.

    Args:
        data: KIND:PATH, KIND a key of READERS.
        ignore: Name of a class whose pixels become IGNORE_ID.
        background: Name of the label that becomes id 0; for CVAT, whose labels have no order.

    Raises:
        ConfigError: `data` is no KIND:PATH, or `background` is given where the ids are fixed.
        DataError: The set cannot be read.
    """
    kind, path = parse_kind(data)
    flags: dict[str, Any] = {"ignore": ignore}
    if kind == "cvat":
        flags["background"] = background
    elif background is not None:
        raise ConfigError(
            f"--background_label '{background}' is given for a set of the kind {kind}",
            expected="it with cvat alone: the ids of the other kinds are fixed",
            next_step="leave it out",
        )
    try:
        return READERS[kind](path, **flags)
    except DataError as err:
        seems = _looks_like(path) if path.exists() else None
        if seems in (None, kind) or _opens(str(seems), path) is None:
            raise
        raise DataError(
            err.problem,
            expected=err.expected,
            next_step=f"it looks like a set of the kind {seems}: '{seems}:{path}'",
        ) from err


def _opens(kind: str, path: Path) -> Reader | None:
    try:
        return READERS[kind](path)
    except DataError:
        return None


def _looks_like(path: Path) -> str | None:
    try:
        names = open_tree(path).names
    except DataError:
        return None
    for kind, markers in _MARKERS:
        if all(any(marker in name for name in names) for marker in markers):
            return kind
    return None
