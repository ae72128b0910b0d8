"""Reads full_semantic itself: the zip of `prepare`, one made by hand, or the data set as built.

    rgb/<stem>.jpg or .png     the images
    gt/<stem>.png              8-bit class ids, 255 ignored; or the colours of labelmap.txt
    labelmap.txt               name:r,g,b:: , the line is the class id
    train.txt val.txt          stems, one a line; test.txt where there is one

Only the two folders have to be there; augment_data calls them RGB and MASK. Without labelmap.txt
the classes are named by number.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from segkit.data.images import IMAGE_SUFFIXES
from segkit.data.reader import Finding, Kind, Reader
from segkit.data.readers.files import FileReader, by_stem, folder_before, pair, text, unpaired
from segkit.data.readers.folder import labels_of_masks
from segkit.data.readers.masks import MaskRule, id_table, without_label
from segkit.data.readers.records import is_built, read_built
from segkit.data.splits import SPLITS, leaks
from segkit.data.tree import Tree, open_tree
from segkit.errors import DataError
from segkit.labels import LabelMap

__all__ = ["read", "read_archive"]

_FOLDERS = (("rgb/", "gt/"), ("RGB/", "MASK/"))
_LABEL_MAP = "labelmap.txt"

log = logging.getLogger(__name__)


def read(path: Path, *, ignore: str | None = None) -> Reader:
    """Opens a zip, a folder of the same files, or a folder that `tfds build` wrote.

    Args:
        path: The one or the other.
        ignore: Name of the class whose pixels become IGNORE_ID.

    Raises:
        DataError: There are no images, or a list cannot be read.
        LabelMapError: labelmap.txt is malformed, or has no such class.
    """
    return read_built(path, ignore=ignore) if is_built(path) else read_archive(path, ignore=ignore)


def read_archive(path: Path, *, ignore: str | None = None) -> FileReader:
    """`read`, of a zip or a folder of images."""
    tree = open_tree(path)
    root, rgb, gt = _root(tree)
    images, findings = by_stem(tree.names, root + rgb, IMAGE_SUFFIXES)
    masks, more = by_stem(tree.names, root + gt, (".png",))
    if not images:
        raise DataError(
            f"'{path}' has no images in {rgb}",
            expected="rgb/<name>.png or .jpg and gt/<name>.png for every image",
            next_step="make it with 'python -m segkit prepare', or in the folder that holds "
            "rgb/ and gt/ with 'zip -r full_semantic.zip .'",
        )
    files, lonely = pair(images, _by_image(images, masks))
    splits, unknown = _splits(tree, root, images)
    unlisted = files.keys() - splits.keys() if splits else set()
    if unlisted:
        log.warning("%s: %d images stand in no list and are left out", path, len(unlisted))
    files = {
        stem: entry._replace(split=splits.get(stem))
        for stem, entry in files.items()
        if stem not in unlisted
    }
    label_map = root + _LABEL_MAP
    labels = (
        LabelMap.load(text(tree, label_map), source=f"{path}/{label_map}")
        if label_map in tree.names
        else labels_of_masks(tree, [str(entry.mask) for entry in files.values()])
    )
    table = id_table((id_, id_) for id_ in range(labels.num_classes))
    labels, table = without_label(labels, table, ignore)
    return FileReader(
        labels,
        files,
        read=tree.read,
        rule=MaskRule(labels, table, colors="also" if label_map in tree.names else "never"),
        findings=[*findings, *more, *lonely, *unknown],
    )


def _root(tree: Tree) -> tuple[str, str, str]:
    """The folder that everything lies in, and the names of the two folders in it."""
    for rgb, gt in _FOLDERS:
        root = folder_before(tree, rgb)
        if any(name.startswith(root + rgb) for name in tree.names):
            return root, rgb, gt
    return "", *_FOLDERS[0]


def _by_image(images: Mapping[str, str], masks: Mapping[str, str]) -> dict[str, str]:
    """The masks by the stems of their images.

    Augmentation scripts in the wild write rgb/idx_3_rot_.png beside gt/idx_3_rot_mask.png.
    """
    found = dict(masks)
    for stem in [x for x in masks if x not in images and x.endswith("mask")]:
        bare = stem.removesuffix("mask")
        owner = next((x for x in (bare, bare.rstrip("_")) if x in images), None)
        if owner is not None and owner not in masks:
            found[owner] = found.pop(stem)
    return found


def _splits(
    tree: Tree, root: str, images: Mapping[str, str]
) -> tuple[dict[str, str], list[Finding]]:
    """Stem -> split, by the lists; empty where they do not tell train from val."""
    names = {split: f"{root}{split}.txt" for split in SPLITS}
    lists = {
        split: list(dict.fromkeys(filter(None, map(str.strip, text(tree, name).splitlines()))))
        for split, name in names.items()
        if name in tree.names
    }
    if not {"train", "val"} <= lists.keys():
        return {}, []
    for split, stems in lists.items():
        if not stems:
            raise DataError(
                f"{split}.txt of '{tree.path}' names nothing",
                expected="names of images without suffix, one a line",
            )
    listed = {stem: split for split, stems in lists.items() for stem in stems}
    return listed, [
        *unpaired(Kind.LISTED_WITHOUT_IMAGE, listed.keys() - images.keys()),
        *leaks(lists),
    ]
