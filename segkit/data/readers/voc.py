"""Reads Pascal VOC's segmentation set.

JPEGImages/<name>.jpg
SegmentationClass/<name>.png           palette PNG: the indices are the class ids, 255 ignored
ImageSets/Segmentation/{train,val}.txt names; others have no mask
"""

from __future__ import annotations

from pathlib import Path

from segkit.data.images import IMAGE_SUFFIXES
from segkit.data.reader import Kind
from segkit.data.readers.files import FileReader, Files, by_stem, folder_before, text, unpaired
from segkit.data.readers.masks import MaskRule, id_table, without_label
from segkit.data.splits import leaks
from segkit.data.tree import open_tree
from segkit.errors import DataError
from segkit.labels import LabelMap

__all__ = ["read"]

_MASKS = "SegmentationClass/"
_LISTS = "ImageSets/Segmentation/"


def read(path: Path, *, ignore: str | None = None) -> FileReader:
    """Opens Pascal VOC.

    Args:
        path: VOC2012, or a folder above it such as VOCdevkit; a zip of either.
        ignore: Name of the class whose pixels become IGNORE_ID.

    Raises:
        DataError: There are no lists or no images.
        LabelMapError: There is no such class.
    """
    tree = open_tree(path)
    several = sorted(name for name in tree.names if name.endswith(f"/{_LISTS}train.txt"))
    if len(several) > 1:
        sets = [name.removesuffix(f"/{_LISTS}train.txt") for name in several]
        raise DataError(
            f"'{path}' holds {len(sets)} sets: {', '.join(sets)}",
            expected="one of them",
            next_step=f"give its folder: 'voc:{path / sets[-1]}'",
        )
    root = folder_before(tree, _LISTS)
    lists = {
        split: text(tree, name).split()
        for split in ("train", "val", "test")
        if (name := f"{root}{_LISTS}{split}.txt") in tree.names
    }
    images, findings = by_stem(tree.names, f"{root}JPEGImages/", IMAGE_SUFFIXES)
    masks, more = by_stem(tree.names, root + _MASKS, (".png",))
    if not lists or not images:
        raise DataError(
            f"'{path}' has no {'images in JPEGImages/' if lists else 'lists in ' + _LISTS}",
            expected=f"JPEGImages/, {_MASKS} and {_LISTS}train.txt, val.txt",
            next_step="give the folder VOC2012 of VOCdevkit",
        )
    split_by_stem = {stem: split for split, stems in lists.items() for stem in stems}
    files = {
        stem: Files(images[stem], masks[stem], split)
        for stem, split in split_by_stem.items()
        if stem in images and stem in masks
    }
    listed = split_by_stem.keys()
    findings = [
        *(finding for finding in [*findings, *more]),
        *unpaired(Kind.LISTED_WITHOUT_IMAGE, listed - images.keys()),
        *unpaired(
            Kind.IMAGE_WITHOUT_MASK, [images[x] for x in (listed & images.keys()) - masks.keys()]
        ),
        *leaks(lists),
    ]
    labels = LabelMap.builtin("voc")
    table = id_table((id_, id_) for id_ in range(labels.num_classes))
    labels, table = without_label(labels, table, ignore)
    rule = MaskRule(labels, table)
    return FileReader(labels, files, read=tree.read, rule=rule, findings=findings)
