"""The folders that images and CVAT's masks lie in before they are augmented.

    rgb/<name>.jpg or .png   images
    mask/<name>.png          CVAT's SegmentationClass: label colours, or numbers of labels
    obj_mask/<name>.png      CVAT's SegmentationObject: one colour an object, black for none
    labelmap.txt             name:r,g,b:parts:actions

Files pair by their names, never by their place in a list.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from segkit.data.images import IMAGE_SUFFIXES, MaskFile, check_image, open_mask
from segkit.data.reader import Pair, Sample
from segkit.data.tree import open_tree
from segkit.errors import DataError, LabelMapError
from segkit.labels import IGNORE_ID, LabelMap

__all__ = ["Blanks", "RawReader", "files_by_stem", "write_blanks"]

_SHOWN = 10


class RawReader:
    """Images, masks and a labelmap.txt, each where the user says.

    Masks are compared by the full RGB colour. Grey masks, and palette masks whose palette shows
    no label colours, hold the numbers of the labels as CVAT counts them.

    Args:
        rgb: Folder of the images.
        mask: Folder of the masks.
        label_map: CVAT's labelmap.txt.
        ignore: Name of the label whose pixels become IGNORE_ID.
        background: Name of the label that becomes id 0, where it is not called "background".

    Raises:
        DataError: Images and masks do not pair, or there are none; the message names files.
        LabelMapError: labelmap.txt is missing or malformed.
    """

    def __init__(
        self,
        rgb: Path,
        mask: Path,
        label_map: Path,
        *,
        ignore: str | None = None,
        background: str | None = None,
    ) -> None:
        self._labels = LabelMap.read(label_map, ignore=ignore, background=background)
        everything = LabelMap.read(label_map, background=background).labels
        in_file_order = LabelMap.load(label_map.read_text("utf-8"), source=str(label_map)).labels
        # CVAT counts the lines, after a background that it had to add.
        added = () if everything[0] in in_file_order else everything[:1]
        self._numbered = (*added, *in_file_order)
        self._rgb = files_by_stem(rgb, IMAGE_SUFFIXES)
        self._masks = files_by_stem(mask, (".png",))
        self._check_pairs(rgb, mask)

    @property
    def labels(self) -> LabelMap:
        """The classes, background first."""
        return self._labels

    @property
    def stems(self) -> frozenset[str]:
        """Names of the images."""
        return frozenset(self._rgb)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._rgb)

    def __iter__(self) -> Iterator[Sample]:
        """The samples, in the order of their stems."""
        for stem in sorted(self._rgb):
            yield Sample(stem, None, partial(self._load, stem))

    def _load(self, stem: str) -> Pair:
        image_path, mask_path = self._rgb[stem], self._masks[stem]
        data = _read(image_path)
        info = check_image(data, source=str(image_path))
        mask = self._ids(open_mask(_read(mask_path), source=str(mask_path)), str(mask_path))
        if mask.shape != (info.height, info.width):
            raise DataError(
                f"image '{image_path}' is {info.width}x{info.height}, its mask '{mask_path}' "
                f"{mask.shape[1]}x{mask.shape[0]}",
                expected="an image and a mask of one size (width x height)",
                next_step="rotate it as its EXIF tag says, without the tag, and label it again"
                if info.turned
                else "export images and masks from the same task",
            )
        return Pair(data, info.suffix, mask)

    def _ids(self, mask: MaskFile, source: str) -> npt.NDArray[np.uint8]:
        values, palette = mask
        if values.ndim == 3:
            return self._labels.ids_from_colors(values, source=source)
        used = np.unique(values)
        if palette is not None:
            declared = {label.color for label in self._numbered}
            if all(tuple(color) in declared for color in palette[used].tolist()):
                return self._labels.ids_from_colors(palette[values], source=source)
        unknown = used[(used >= len(self._numbered)) & (used != IGNORE_ID)]
        if unknown.size:
            raise LabelMapError(
                f"mask '{source}' has {(values == unknown[0]).sum():,} pixels of the value "
                f"{unknown[0]}, but labelmap.txt numbers its labels 0..{len(self._numbered) - 1}",
                expected="an RGB mask in the label colours, or a grey one of label numbers",
                next_step="export the masks from CVAT again, or add the missing labels",
            )
        return self._id_of_number[values]

    @cached_property
    def _id_of_number(self) -> npt.NDArray[np.uint8]:
        table = np.full(256, IGNORE_ID, np.uint8)
        for number, label in enumerate(self._numbered):
            if label != self._labels.ignore:
                table[number] = self._labels.labels.index(label)
        return table

    def _check_pairs(self, rgb: Path, mask: Path) -> None:
        _check_some(self._rgb, rgb)
        for problem, stems, next_step in (
            (
                f"images of '{rgb}' have no mask in '{mask}'",
                self._rgb.keys() - self._masks.keys(),
                "if they show only background, 'python data_augmentation/make_blank_label.py' "
                "writes their masks",
            ),
            (
                f"masks of '{mask}' have no image in '{rgb}'",
                self._masks.keys() - self._rgb.keys(),
                "add the images, or remove the masks",
            ),
        ):
            if stems:
                raise DataError(
                    f"{len(stems)} {problem}: {_name_some(stems)}",
                    expected="every image with its mask, by name",
                    next_step=next_step,
                )


class Blanks(NamedTuple):
    """What `write_blanks` did: stems it wrote masks for, and stems with one mask of the two."""

    written: tuple[str, ...]
    without_objects: tuple[str, ...]
    without_mask: tuple[str, ...]


def write_blanks(rgb: Path, mask: Path, obj_mask: Path, *, color: tuple[int, int, int]) -> Blanks:
    """Writes a mask and an object mask of nothing but background where an image has neither.

    CVAT writes no masks for images without shapes. What exists is never overwritten, and an image
    that has one of the two is left alone: there is something on it.

    Args:
        rgb: Folder of the images.
        mask: Folder of the masks; made if missing.
        obj_mask: Folder of the object masks; made if missing.
        color: RGB of the background in the masks.

    Raises:
        DataError: There are no images, one is damaged, or a mask cannot be written.
    """
    images = files_by_stem(rgb, IMAGE_SUFFIXES)
    _check_some(images, rgb)
    masks = files_by_stem(mask, (".png",)) if mask.exists() else {}
    objects = files_by_stem(obj_mask, (".png",)) if obj_mask.exists() else {}
    bare = sorted(images.keys() - masks.keys() - objects.keys())
    sizes = {}
    for stem in bare:  # all of them first: a damaged image leaves no half-done folder
        info = check_image(_read(images[stem]), source=str(images[stem]))
        sizes[stem] = (info.height, info.width)
    for stem, size in sizes.items():
        _write_flat(mask / f"{stem}.png", size, color)
        _write_flat(obj_mask / f"{stem}.png", size, (0, 0, 0))
    return Blanks(
        tuple(bare),
        tuple(sorted((images.keys() & masks.keys()) - objects.keys())),
        tuple(sorted((images.keys() & objects.keys()) - masks.keys())),
    )


def files_by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder and of those in it: name without suffix, with sub-folders -> path.

    Raises:
        DataError: There is no such folder, or two names differ in the suffix only.
    """
    if not folder.is_dir():
        raise DataError(
            f"there is no folder '{folder}'", expected=f"a folder of {', '.join(suffixes)} files"
        )
    found: dict[str, Path] = {}
    for name in sorted(open_tree(folder).names):
        path = folder / name
        if path.suffix.lower() not in suffixes:
            continue
        stem = name[: -len(path.suffix)]
        if stem in found:
            raise DataError(
                f"'{found[stem]}' and '{path}' differ in the suffix only",
                expected="one file a name: images and masks pair by name",
                next_step="rename or remove one of them",
            )
        found[stem] = path
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise DataError(f"'{path}' cannot be read: {err.strerror}") from err


def _write_flat(path: Path, size: tuple[int, int], color: tuple[int, int, int]) -> None:
    """An RGB PNG of one colour; `size` is (height, width)."""
    buffer = io.BytesIO()
    Image.new("RGB", (size[1], size[0]), color).save(buffer, format="PNG")
    partial_path = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_path.write_bytes(buffer.getvalue())
        partial_path.replace(path)
    except OSError as err:
        partial_path.unlink(missing_ok=True)
        raise DataError(f"'{path}' cannot be written: {err.strerror}") from err


def _check_some(images: Mapping[str, Path], folder: Path) -> None:
    if not images:
        raise DataError(
            f"there are no images in '{folder}'",
            expected=f"{', '.join(IMAGE_SUFFIXES)} files",
            next_step="copy the images there, or name their folder with --rgb_path",
        )


def _name_some(stems: Iterable[str]) -> str:
    ordered = sorted(stems)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(f"'{stem}'" for stem in ordered[:_SHOWN]) + more
