"""Reads ADE20K SceneParsing (ADEChallengeData2016).

    images/{training,validation}/ADE_<split>_<number>.jpg
    annotations/{training,validation}/ADE_<split>_<number>.png    0 other, 1..150 classes
    training.odgt, validation.odgt    where they are: which of them, one JSON object a line

Label n becomes class id n - 1, label 0 is ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from segkit.data.images import IMAGE_SUFFIXES
from segkit.data.reader import Finding, Kind
from segkit.data.readers.files import (
    FileReader,
    Files,
    by_stem,
    folder_before,
    pair,
    same_name,
    split_of,
    text,
    unpaired,
    without_suffix,
)
from segkit.data.readers.masks import MaskRule, id_table, without_label
from segkit.data.splits import leaks
from segkit.data.tree import Tree, open_tree
from segkit.errors import DataError
from segkit.labels import IGNORE_ID, LabelMap

__all__ = ["read"]

_SPLITS = ("training", "validation")


def read(path: Path, *, ignore: str | None = None) -> FileReader:
    """Opens ADE20K.

    Args:
        path: ADEChallengeData2016, or the folder above it; a zip of either.
        ignore: Name of the class whose pixels become IGNORE_ID.

    Raises:
        DataError: There are no images, or a list is malformed.
        LabelMapError: There is no such class.
    """
    tree = open_tree(path)
    lists = sorted(name for name in tree.names if name.endswith(".odgt"))
    files, findings = _listed(tree, lists) if lists else _in_folders(tree)
    if not files:
        raise DataError(
            f"'{path}' has no images with annotations",
            expected="images/training/*.jpg, annotations/training/*.png, and validation likewise",
            next_step="give the folder ADEChallengeData2016",
        )
    labels = LabelMap.builtin("ade20k")
    table = id_table([(0, IGNORE_ID), *((id_ + 1, id_) for id_ in range(labels.num_classes))])
    labels, table = without_label(labels, table, ignore)
    return FileReader(
        labels, files, read=tree.read, rule=MaskRule(labels, table), findings=findings
    )


def _in_folders(tree: Tree) -> tuple[dict[str, Files], list[Finding]]:
    root = folder_before(tree, "annotations/")
    files: dict[str, Files] = {}
    findings: list[Finding] = []
    for split in _SPLITS:
        images, more = by_stem(tree.names, f"{root}images/{split}/", IMAGE_SUFFIXES)
        masks, others = by_stem(tree.names, f"{root}annotations/{split}/", (".png",))
        found, lonely = pair(images, masks, split_of(split))
        files |= found
        findings += [*more, *others, *lonely]
    return files, findings


def _listed(tree: Tree, lists: list[str]) -> tuple[dict[str, Files], list[Finding]]:
    files: dict[str, Files] = {}
    findings: list[Finding] = []
    stems: dict[str, list[str]] = {}
    for name in lists:
        words = re.split(r"[^a-z]+", PurePosixPath(name).stem.lower())
        split = next(filter(None, map(split_of, words)), None)
        for number, line in enumerate(text(tree, name).splitlines(), start=1):
            if not line.strip():
                continue
            image, mask = _paths(line, f"'{name}' of '{tree.path}', line {number}")
            image_file, mask_file = _find(tree, image), _find(tree, mask)
            if image_file is None:
                findings += unpaired(Kind.LISTED_WITHOUT_IMAGE, [image])
            elif mask_file is None:
                findings += unpaired(Kind.IMAGE_WITHOUT_MASK, [image])
            else:
                stem = without_suffix(PurePosixPath(image).name, IMAGE_SUFFIXES)
                entry = files.setdefault(stem, Files(image_file, mask_file, split))
                stems.setdefault(split or name, []).append(stem)
                if entry.image != image_file:
                    findings.append(same_name(entry.image, image_file))
    return files, [*findings, *leaks(stems)]


def _paths(line: str, where: str) -> tuple[str, str]:
    try:
        entry: Mapping[str, str] = json.loads(line)
        return entry["fpath_img"], entry["fpath_segm"]
    except (ValueError, KeyError, TypeError) as err:
        raise DataError(
            f"{where} is {line[:80]!r}",
            expected='a JSON object such as {"fpath_img": "...", "fpath_segm": "..."}',
            next_step="take the list as it was published",
        ) from err


def _find(tree: Tree, name: str) -> str | None:
    """A file that a list names from the root of its set, which may lie above or below ours."""
    if name in tree.names:
        return name
    _, _, below = name.partition("/")
    if below in tree.names:
        return below
    return next((x for x in tree.names if x.endswith("/" + name)), None)
