"""Reads plain folders: images/ and masks/, with or without train, val and test.

    images/<name>.jpg or .png    also images/train/<name>.jpg or train/images/<name>.jpg
    masks/<name>.png             class ids, 255 ignored; likewise below or above train
    labelmap.txt                 name:r,g,b:: , the line is the class id

Without labelmap.txt the classes are named by number, as many as the masks have. With it, masks may
also hold the label colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segkit.data.images import IMAGE_SUFFIXES, open_mask
from segkit.data.parallel import in_order
from segkit.data.reader import Finding
from segkit.data.readers.files import FileReader, Files, by_stem, pair, split_of, text
from segkit.data.readers.masks import MaskRule, are_voc_greys, id_table, without_label
from segkit.data.splits import leaks
from segkit.data.tree import Tree, open_tree
from segkit.errors import DataError
from segkit.labels import IGNORE_ID, LabelMap

__all__ = ["labels_of_masks", "read"]

_IMAGES = ("images", "imgs", "image", "img")
_MASKS = ("masks", "labels", "annotations", "mask")
_LABEL_MAP = "labelmap.txt"
_VOC_CLASSES = 21


def read(path: Path, *, ignore: str | None = None) -> FileReader:
    """Opens a folder (or a zip) of images/ and masks/.

    Where a name occurs in more than one split, the names get their split in front.

    Args:
        path: What holds images/ and masks/, or train/ and val/ with those in them.
        ignore: Name of the class whose pixels become IGNORE_ID.

    Raises:
        DataError: There is no image, or no mask.
        LabelMapError: labelmap.txt is malformed, or has no such class.
    """
    tree = open_tree(path)
    images = _sorted_by_split(tree, _IMAGES, IMAGE_SUFFIXES)
    masks = _sorted_by_split(tree, _MASKS, (".png",))
    if not images or not masks:
        raise DataError(
            f"'{path}' has no {'masks' if images else 'images'}",
            expected="images/<name>.jpg or .png and masks/<name>.png, which may have train, val "
            "and test below or above them",
            next_step="rename the folders, or name the kind of the set: --data KIND:PATH",
        )
    findings: list[Finding] = []
    parts: dict[str | None, dict[str, Files]] = {}
    for split in sorted(images.keys() | masks.keys(), key=str):
        image_of, more = _stems(images.get(split, {}), IMAGE_SUFFIXES)
        mask_of, others = _stems(masks.get(split, {}), (".png",))
        parts[split], lonely = pair(image_of, mask_of, split)
        findings += [*more, *others, *lonely]
    stems = [stem for part in parts.values() for stem in part]
    prefixed = len(set(stems)) < len(stems)
    files = {
        f"{split}/{stem}" if prefixed and split else stem: entry
        for split, part in parts.items()
        for stem, entry in part.items()
    }
    own = {split: list(part) for split, part in parts.items() if split and not prefixed}
    label_map = min((x for x in tree.names if f"/{x}".endswith(f"/{_LABEL_MAP}")), default=None)
    labels = (
        LabelMap.load(text(tree, label_map), source=f"{path}/{label_map}")
        if label_map
        else labels_of_masks(tree, [str(entry.mask) for entry in files.values()])
    )
    table = id_table((id_, id_) for id_ in range(labels.num_classes))
    labels, table = without_label(labels, table, ignore)
    rule = MaskRule(labels, table, colors="also" if label_map else "never")
    return FileReader(labels, files, read=tree.read, rule=rule, findings=[*findings, *leaks(own)])


def labels_of_masks(tree: Tree, names: list[str]) -> LabelMap:
    """Classes named by number, as many as the masks have; damaged and coloured ones do not count.

    Two where the masks say nothing of more: loading them says what is wrong with them.

    Raises:
        DataError: They hold nothing but 0.
    """
    used = np.zeros(256, bool)

    def occurs(name: str) -> npt.NDArray[np.bool_]:
        try:
            found = open_mask(tree.read(name), source=name).values
        except DataError:
            return np.zeros(256, bool)  # loading the sample will say what is wrong with it
        if found.ndim == 3:
            found = found[..., 0] if (found == found[..., :1]).all() else found[:0]
        return np.bincount(found.ravel(), minlength=256) > 0

    for values in in_order(occurs, names):
        used |= values
    if used[0] and not used[1:].any():
        raise DataError(
            f"the masks of '{tree.path}' hold nothing but 0, which is one class",
            expected=f"class ids 0, 1, 2, ...; {IGNORE_ID} means ignored",
            next_step="write the masks of the objects too, or add a labelmap.txt",
        )
    found = np.flatnonzero(used[:IGNORE_ID]).tolist()
    highest = max(found, default=0)
    if highest >= _VOC_CLASSES and are_voc_greys(found):
        highest = _VOC_CLASSES - 1
    return LabelMap.from_names(f"class_{id_}" for id_ in range(max(highest, 1) + 1))


def _sorted_by_split(
    tree: Tree, folders: tuple[str, ...], suffixes: tuple[str, ...]
) -> dict[str | None, dict[str, str]]:
    """Split -> name below the folder -> name, of the files in folders of one of these names."""
    found: dict[str | None, dict[str, str]] = {}
    for name in tree.names:
        parts = name.split("/")
        place = next((i for i, part in enumerate(parts[:-1]) if part.lower() in folders), None)
        if place is None or not name.lower().endswith(suffixes):
            continue
        below = parts[place + 1 :]
        split = split_of(parts[place - 1]) if place else None
        if split is None and len(below) > 1:
            split = split_of(below[0])
            below = below[1:] if split else below
        found.setdefault(split, {})["/".join(below)] = name
    return found


def _stems(
    names: Mapping[str, str], suffixes: tuple[str, ...]
) -> tuple[dict[str, str], list[Finding]]:
    stems, findings = by_stem(names, "", suffixes)
    return {stem: names[below] for stem, below in stems.items()}, [
        finding._replace(file=names[finding.file]) for finding in findings
    ]
