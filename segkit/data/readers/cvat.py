"""Reads an export of CVAT in the format "Segmentation mask 1.1", as a folder or as its zip.

    labelmap.txt                      name:r,g,b:parts:actions
    ImageSets/Segmentation/*.txt      names without suffix, one list a subset
    SegmentationClass/<name>.png      masks, painted in the label colours
    JPEGImages/<name>.<jpg|png>       the images, where "Save images" was ticked

CVAT writes no mask for a frame without shapes: listed without a mask means all background.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from segkit.data.images import IMAGE_SUFFIXES
from segkit.data.reader import Finding, Kind
from segkit.data.readers.files import (
    FileReader,
    Files,
    by_stem,
    split_of,
    text,
    unpaired,
    without_suffix,
)
from segkit.data.readers.masks import MaskRule, id_table
from segkit.data.splits import leaks
from segkit.data.tree import Tree, open_tree
from segkit.errors import DataError, LabelMapError
from segkit.labels import IGNORE_ID, LabelMap

__all__ = ["CvatLabels", "read", "read_labels"]

_LABEL_MAP = "labelmap.txt"
_IMAGES = "JPEGImages/"
_MASKS = "SegmentationClass/"
_LISTS = "ImageSets/Segmentation/"

log = logging.getLogger(__name__)


class CvatLabels(NamedTuple):
    """What CVAT's labelmap.txt says: the classes, how masks become ids, the id of blank frames."""

    labels: LabelMap
    rule: MaskRule
    blank_id: int


def read(path: Path, *, ignore: str | None = None, background: str | None = None) -> FileReader:
    """Opens a CVAT "Segmentation mask 1.1" export.

    Masks are compared by the full RGB colour. A grey mask holds line numbers of labelmap.txt, as
    CVAT imports them; a palette mask is read by its palette where that shows label colours, else
    likewise as line numbers.

    Args:
        path: The export, unpacked or as zip.
        ignore: Name of the label whose pixels become IGNORE_ID.
        background: Name of the label that becomes id 0, where it is not called "background".

    Raises:
        DataError: There are no images or no masks.
        LabelMapError: labelmap.txt is missing or malformed.
    """
    tree = open_tree(path)
    known = read_labels(
        _label_map(tree), ignore=ignore, background=background, source=f"{path}/{_LABEL_MAP}"
    )
    images, findings = by_stem(tree.names, _IMAGES, IMAGE_SUFFIXES)
    masks, more = by_stem(tree.names, _MASKS, (".png",))
    _check_some(tree, images, masks)
    taken = {*images.values(), *masks.values(), *(finding.file for finding in [*findings, *more])}
    for name in sorted(tree.names - taken):
        if name.startswith((_IMAGES, _MASKS)):
            log.warning("%s: '%s' is left out: no image or no PNG mask", path, name)

    lists = _lists(tree, images)
    listed = {stem for stems in lists.values() for stem in stems}
    splits = _splits(lists, images)
    files = {
        stem: Files(images[stem], masks.get(stem), splits.get(stem))
        for stem in images
        if stem in masks or stem in listed
    }
    findings += [
        *more,
        *unpaired(Kind.MASK_WITHOUT_IMAGE, [masks[x] for x in masks.keys() - images.keys()]),
        *unpaired(Kind.LISTED_WITHOUT_IMAGE, listed - images.keys()),
        *_unlisted([images[x] for x in images.keys() - masks.keys() - listed]),
        *leaks({name: stems for name, stems in _known(lists).items() if "val" in _known(lists)}),
    ]
    return FileReader(
        known.labels,
        files,
        read=tree.read,
        rule=known.rule,
        findings=findings,
        blank_id=known.blank_id,
    )


def read_labels(
    content: str, *, ignore: str | None = None, background: str | None = None, source: str
) -> CvatLabels:
    """Reads the text of labelmap.txt, as `LabelMap.parse` does, and what its masks hold."""
    labels = LabelMap.parse(content, ignore=ignore, background=background, source=source)
    first = LabelMap.parse(content, background=background, source=source).labels[0]
    # CVAT counts the lines, after a background that it had to add.
    lines = list(LabelMap.load(content, source=source).labels)
    if first not in lines:
        lines.insert(0, first)
    table = id_table(
        (number, IGNORE_ID if label == labels.ignore else labels.labels.index(label))
        for number, label in enumerate(lines)
    )
    return CvatLabels(
        labels,
        MaskRule(labels, table, colors="always"),
        # A frame without shapes shows the background, and that may be what is to be ignored.
        IGNORE_ID if first == labels.ignore else 0,
    )


def _label_map(tree: Tree) -> str:
    if _LABEL_MAP not in tree.names:
        inside = sorted(name for name in tree.names if name.endswith("/" + _LABEL_MAP))
        raise LabelMapError(
            f"'{tree.path}' has no {_LABEL_MAP}",
            expected="a CVAT export in the format 'Segmentation mask 1.1'",
            next_step=f"give the folder of '{inside[0]}' instead"
            if inside
            else "export the task again in that format, or copy its labelmap.txt there",
        )
    return text(tree, _LABEL_MAP)


def _check_some(tree: Tree, images: Mapping[str, str], masks: Mapping[str, str]) -> None:
    if not images:
        raise DataError(
            f"'{tree.path}' has no images in {_IMAGES}",
            expected=f"{_IMAGES}<name>.jpg or .png beside {_MASKS}<name>.png",
            next_step="export again with 'Save images' ticked",
        )
    if not masks:
        raise DataError(
            f"'{tree.path}' has no masks in {_MASKS}",
            expected="at least one image with a polygon, a mask, a box or an ellipse on it",
            next_step="label some images (polylines and points leave no mask), export again",
        )


def _lists(tree: Tree, images: Iterable[str]) -> dict[str, list[str]]:
    """List name -> stems. Names with blanks are quoted; some tools leave the suffix on."""
    known = set(images)
    lists = {}
    for name in sorted(x for x in tree.names if x.startswith(_LISTS) and x.endswith(".txt")):
        stems = []
        for line in text(tree, name).splitlines():
            stem = line.strip().strip('"')
            if not stem or line.startswith("#"):
                continue
            bare = without_suffix(stem, IMAGE_SUFFIXES)
            stems.append(bare if stem not in known and bare in known else stem)
        lists[name] = stems
    return lists


def _known(lists: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Split -> stems, of the lists that are called like one."""
    known: dict[str, list[str]] = {}
    for name, stems in lists.items():
        split = split_of(PurePosixPath(name).stem)
        if split:
            known.setdefault(split, []).extend(stems)
    return known


def _splits(lists: Mapping[str, list[str]], images: Iterable[str]) -> dict[str, str]:
    """Split of each stem by the export's lists; empty where they do not tell val from train.

    What only another list names, such as CVAT's default.txt, is for training.
    """
    known = _known(lists)
    if "val" not in known:
        return {}
    assigned = {stem: split for split, stems in known.items() for stem in stems}
    return {stem: assigned.get(stem, "train") for stem in images}


def _unlisted(names: Iterable[str]) -> list[Finding]:
    return [
        Finding(
            Kind.IMAGE_WITHOUT_MASK,
            name,
            f"the image '{name}' has neither a mask nor a line in a list",
            f"remove it, or list it in {_LISTS}train.txt if it shows only background",
        )
        for name in sorted(names)
    ]
