"""Reads an export of CVAT in the format "Segmentation mask 1.1", as a folder or as its zip.

    labelmap.txt                      name:r,g,b:parts:actions
    ImageSets/Segmentation/*.txt      names without suffix, one list a subset
    SegmentationClass/<name>.png      masks, painted in the label colours
    JPEGImages/<name>.<jpg|png>       the images, where "Save images" was ticked

CVAT writes no mask for a frame without shapes: listed without a mask means all background.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from segkit.data.images import IMAGE_SUFFIXES, MaskFile, check_image, open_mask
from segkit.data.reader import Pair, Sample
from segkit.data.splits import check_no_leak
from segkit.data.tree import Tree, open_tree
from segkit.errors import DataError, LabelMapError
from segkit.labels import HEADER, IGNORE_ID, LabelMap

__all__ = ["CvatReader"]

_LABEL_MAP = "labelmap.txt"
_IMAGES = "JPEGImages/"
_MASKS = "SegmentationClass/"
_LISTS = "ImageSets/Segmentation/"
# CVAT's own subsets are Train, Validation and Test; people write the others.
_SPLIT_OF_LIST = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_SHOWN = 10

log = logging.getLogger(__name__)


class CvatReader:
    """A CVAT "Segmentation mask 1.1" export.

    Masks are compared by the full RGB colour. A grey mask holds line numbers of labelmap.txt, as
    CVAT imports them; a palette mask is read by its palette where that shows label colours, else
    likewise as line numbers.

    Args:
        path: The export, unpacked or as zip.
        ignore: Name of the label whose pixels become IGNORE_ID.
        background: Name of the label that becomes id 0, where it is not called "background".

    Raises:
        DataError: Something is missing, or images and masks do not pair; the message names files.
        LabelMapError: labelmap.txt is missing or malformed.
    """

    def __init__(
        self, path: Path, *, ignore: str | None = None, background: str | None = None
    ) -> None:
        self._tree = open_tree(path)
        text = _read_label_map(self._tree)
        source = f"{path}/{_LABEL_MAP}"
        self._labels = LabelMap.parse(text, ignore=ignore, background=background, source=source)
        self._in_file_order = LabelMap.load(text, source=source)
        self._background = LabelMap.parse(text, background=background, source=source).labels[0]
        # A frame without shapes shows the background, and that may be what is to be ignored.
        self._blank_id = IGNORE_ID if self._background == self._labels.ignore else 0
        self._images = _by_stem(self._tree, _IMAGES, IMAGE_SUFFIXES)
        self._masks = _by_stem(self._tree, _MASKS, (".png",))
        self._lists = _read_lists(self._tree, self._images)
        self._check_pairs()
        self._split_of = self._assign_splits()

    @property
    def labels(self) -> LabelMap:
        """The classes, background first."""
        return self._labels

    @property
    def blank(self) -> tuple[str, ...]:
        """Stems of the frames without a mask."""
        return tuple(stem for stem in sorted(self._images) if stem not in self._masks)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._images)

    def __iter__(self) -> Iterator[Sample]:
        """The samples, in the order of their stems."""
        for stem in sorted(self._images):
            yield Sample(stem, self._split_of.get(stem), partial(self._load, stem))

    def _load(self, stem: str) -> Pair:
        image_name = self._images[stem]
        data = self._tree.read(image_name)
        info = check_image(data, source=image_name)
        mask_name = self._masks.get(stem)
        if mask_name is None:
            blank = np.full((info.height, info.width), self._blank_id, np.uint8)
            return Pair(data, info.suffix, blank)
        mask = self._ids(open_mask(self._tree.read(mask_name), source=mask_name), mask_name)
        if mask.shape != (info.height, info.width):
            hint = "rotate it as its EXIF tag says, without the tag, and label it again"
            raise DataError(
                f"image '{image_name}' is {info.width}x{info.height}, its mask '{mask_name}' "
                f"{mask.shape[1]}x{mask.shape[0]}",
                expected="an image and a mask of one size (width x height)",
                next_step=hint if info.turned else "export images and masks from the same task",
            )
        return Pair(data, info.suffix, mask)

    def _ids(self, mask: MaskFile, source: str) -> npt.NDArray[np.uint8]:
        """Class ids of a mask of colours, of palette entries or of line numbers."""
        values, palette = mask
        if values.ndim == 3:
            return self._labels.ids_from_colors(values, source=source)
        used = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
        if palette is not None:
            declared = {label.color for label in self._in_file_order.labels}
            if all(tuple(color) in declared for color in palette[used].tolist()):
                table = np.zeros(256, np.uint8)
                table[used] = self._labels.ids_from_colors(palette[used][None], source=source)[0]
                return table[values]
        return self._ids_from_lines(values, used, source)

    def _ids_from_lines(
        self, lines: npt.NDArray[np.uint8], used: npt.NDArray[np.intp], source: str
    ) -> npt.NDArray[np.uint8]:
        table = self._id_of_line
        unknown = [int(line) for line in used if line >= len(table) and line != IGNORE_ID]
        if unknown:
            count = int((lines == unknown[0]).sum())
            raise LabelMapError(
                f"mask '{source}' has {count:,} pixels of the value {unknown[0]}, but "
                f"labelmap.txt numbers its labels 0..{len(table) - 1}",
                expected="an RGB mask in the label colours, or a grey one of line numbers",
                next_step="export the masks from CVAT again, or add the missing labels",
            )
        full = np.full(256, IGNORE_ID, np.uint8)
        full[: len(table)] = table
        return full[lines]

    @cached_property
    def _id_of_line(self) -> list[int]:
        """Class ids by CVAT's number: the line, after a background that it had to add."""
        lines = list(self._in_file_order.labels)
        if self._background not in lines:
            lines.insert(0, self._background)
        return [
            IGNORE_ID if label == self._labels.ignore else self._labels.labels.index(label)
            for label in lines
        ]

    def _check_pairs(self) -> None:
        where = self._tree.path
        images, masks = self._images.keys(), self._masks.keys()
        listed = {stem for stems in self._lists.values() for stem in stems}
        if not images:
            raise DataError(
                f"'{where}' has no images in {_IMAGES}",
                expected=f"{_IMAGES}<name>.jpg or .png beside {_MASKS}<name>.png",
                next_step="export again with 'Save images' ticked",
            )
        if not masks:
            raise DataError(
                f"'{where}' has no masks in {_MASKS}",
                expected="at least one image with a polygon, a mask, a box or an ellipse on it",
                next_step="label some images (polylines and points leave no mask), export again",
            )
        for problem, stems, next_step in (
            ("{n} masks without an image", masks - images, "add the images to " + _IMAGES),
            ("{n} listed names without an image", listed - images, "add the images to " + _IMAGES),
            (
                "{n} images with neither a mask nor a line in a list",
                images - masks - listed,
                f"remove them, or list them in {_LISTS}train.txt if they show only background",
            ),
        ):
            if stems:
                raise DataError(
                    f"'{where}' has {problem.format(n=len(stems))}: {_name_some(stems)}",
                    expected="every image with its mask by name, or listed as background only",
                    next_step=next_step,
                )

    def _assign_splits(self) -> dict[str, str]:
        """Split of each stem by the export's lists; empty where they do not tell val from train.

        What only another list names, such as CVAT's default.txt, is for training.
        """
        known: dict[str, set[str]] = {}
        for name, stems in self._lists.items():
            split = _SPLIT_OF_LIST.get(PurePosixPath(name).stem.lower())
            if split:
                known.setdefault(split, set()).update(stems)
        if "val" not in known:
            return {}
        check_no_leak(
            {split: sorted(stems) for split, stems in known.items()}, source=str(self._tree.path)
        )
        assigned = {stem: split for split, stems in known.items() for stem in stems}
        return {stem: assigned.get(stem, "train") for stem in self._images}


def _read_label_map(tree: Tree) -> str:
    if _LABEL_MAP not in tree.names:
        inside = sorted(name for name in tree.names if name.endswith("/" + _LABEL_MAP))
        raise LabelMapError(
            f"'{tree.path}' has no {_LABEL_MAP}",
            expected="a CVAT export in the format 'Segmentation mask 1.1'",
            next_step=f"give the folder of '{inside[0]}' instead"
            if inside
            else "export the task again in that format, or copy its labelmap.txt there",
        )
    return _text(tree, _LABEL_MAP)


def _read_lists(tree: Tree, images: Iterable[str]) -> dict[str, list[str]]:
    """List name -> stems. Names with blanks are quoted; some tools leave the suffix on."""
    known = set(images)
    lists = {}
    for name in sorted(x for x in tree.names if x.startswith(_LISTS) and x.endswith(".txt")):
        stems = []
        for line in _text(tree, name).splitlines():
            stem = line.strip().strip('"')
            if not stem or line.startswith("#"):
                continue
            bare = _without_suffix(stem, IMAGE_SUFFIXES)
            stems.append(bare if stem not in known and bare in known else stem)
        lists[name] = stems
    return lists


def _by_stem(tree: Tree, folder: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Stem (with sub-folders) -> name of the file."""
    found: dict[str, str] = {}
    for name in sorted(tree.names):
        if not name.startswith(folder):
            continue
        stem = _without_suffix(name[len(folder) :], suffixes)
        if stem == name[len(folder) :]:
            log.warning("%s: '%s' is left out: not one of %s", tree.path, name, ", ".join(suffixes))
            continue
        if stem in found:
            raise DataError(
                f"'{found[stem]}' and '{name}' of '{tree.path}' have the same name but for the "
                "suffix",
                expected="one image a name: masks pair by name",
                next_step="rename one of them in CVAT, or remove it",
            )
        found[stem] = name
    return found


def _without_suffix(name: str, suffixes: tuple[str, ...]) -> str:
    # Not PurePath.stem: a frame may be called "drive.0001".
    for suffix in suffixes:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _text(tree: Tree, name: str) -> str:
    try:
        return tree.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise LabelMapError(
            f"'{name}' of '{tree.path}' is not UTF-8 text", expected=f"lines such as {HEADER[2:]}"
        ) from err


def _name_some(stems: Iterable[str]) -> str:
    ordered = sorted(stems)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(f"'{stem}'" for stem in ordered[:_SHOWN]) + more
