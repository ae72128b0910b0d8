"""Reads Cityscapes: as downloaded (a folder of its zips), unpacked, or as TFDS built it.

    leftImg8bit/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png
    gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_labelIds.png (or labelTrainIds)

Ids become the 19 train ids, everything else is ignored (cityscapesScripts, helpers/labels.py). Only
train and val are read: the masks of test are dummies, train_extra has coarse ones.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from segkit.data.reader import Finding, Reader
from segkit.data.readers.files import FileReader, Files, pair, split_of
from segkit.data.readers.masks import MaskRule, id_table, without_label
from segkit.data.readers.records import Fields, RecordReader, built_version
from segkit.data.tree import merge_trees, open_tree
from segkit.errors import DataError
from segkit.labels import IGNORE_ID, LabelMap

__all__ = ["TRAIN_IDS", "read"]

# labelId of each train id.
TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_NUM_IDS = 34
_IMAGE = re.compile(r"(?:^|/)leftImg8bit/([^/]+)/([^/]+/[^/]+)_leftImg8bit\.png$")
_MASK = re.compile(r"(?:^|/)gtFine/([^/]+)/([^/]+/[^/]+)_gtFine_(labelIds|labelTrainIds)\.png$")

log = logging.getLogger(__name__)


def read(path: Path, *, ignore: str | None = None) -> Reader:
    """Opens Cityscapes.

    Args:
        path: What holds leftImg8bit/ and gtFine/, or leftImg8bit_trainvaltest.zip and
            gtFine_trainvaltest.zip; or a folder that TFDS built
            (cityscapes/semantic_segmentation).
        ignore: Name of the class whose pixels become IGNORE_ID.

    Raises:
        DataError: There are no images, or no masks.
        LabelMapError: There is no such class.
    """
    by_id = id_table((id_, IGNORE_ID) for id_ in range(_NUM_IDS))
    by_id[list(TRAIN_IDS)] = range(len(TRAIN_IDS))
    by_train_id = id_table((id_, id_) for id_ in range(len(TRAIN_IDS)))
    labels = LabelMap.builtin("cityscapes")
    kept, by_id = without_label(labels, by_id, ignore)
    _, by_train_id = without_label(labels, by_train_id, ignore)

    version = built_version(path) if path.is_dir() else None
    if version is not None:
        fields = Fields("image_left", "segmentation_label", "image_id")
        rule = MaskRule(kept, by_id)
        return RecordReader(version, kept, rule=rule, fields=fields, skip=("test",))

    zips = sorted(path.glob("leftImg8bit*.zip")) + sorted(path.glob("gtFine*.zip"))
    tree = open_tree(path)
    if zips and not any(map(_IMAGE.search, tree.names)):
        tree = merge_trees(path, map(open_tree, zips))
    images = {(m[1], m[2]): name for name in tree.names if (m := _IMAGE.search(name))}
    masks = {(m[3], m[1], m[2]): name for name in tree.names if (m := _MASK.search(name))}
    kind = "labelIds" if any(key[0] == "labelIds" for key in masks) else "labelTrainIds"
    present = {split for split, _ in images}
    splits = [split for split in ("train", "val") if split in present]
    if not splits or not masks:
        raise DataError(
            f"'{path}' has no {'masks in gtFine/' if splits else 'images in leftImg8bit/'}",
            expected="leftImg8bit/ and gtFine/, each with train/<city>/ and val/<city>/ in it",
            next_step="put leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip into one "
            "folder, or unpack them there, and give that",
        )
    if present > set(splits):
        log.info("%s: left out, for want of fine masks: %s", path, present - set(splits))
    files: dict[str, Files] = {}
    findings: list[Finding] = []
    for split in splits:
        found, lonely = pair(
            {stem: name for (of, stem), name in images.items() if of == split},
            {key[2]: name for key, name in masks.items() if key[:2] == (kind, split)},
            split_of(split),
        )
        files |= found
        findings += lonely
    rule = MaskRule(kept, by_id if kind == "labelIds" else by_train_id)
    return FileReader(kept, files, read=tree.read, rule=rule, findings=findings)
