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
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from segkit.data.images import IMAGE_SUFFIXES, check_image
from segkit.data.readers.cvat import read_labels
from segkit.data.readers.files import FileReader, pair
from segkit.data.tree import open_tree
from segkit.errors import DataError
from segkit.labels import LabelMap

__all__ = ["Blanks", "files_by_stem", "read_raw", "write_blanks"]


def read_raw(
    rgb: Path,
    mask: Path,
    label_map: Path,
    *,
    ignore: str | None = None,
    background: str | None = None,
) -> FileReader:
    """Opens images, masks and a labelmap.txt, each where the user says.

    Masks are compared by the full RGB colour. Grey masks, and palette masks whose palette shows
    no label colours, hold the numbers of the labels as CVAT counts them.

    Args:
        rgb: Folder of the images.
        mask: Folder of the masks.
        label_map: CVAT's labelmap.txt.
        ignore: Name of the label whose pixels become IGNORE_ID.
        background: Name of the label that becomes id 0, where it is not called "background".

    Raises:
        DataError: There are no images, or there is no such folder.
        LabelMapError: labelmap.txt is missing or malformed.
    """
    LabelMap.read(label_map)  # says what is wrong with the file
    known = read_labels(
        label_map.read_text(encoding="utf-8"),
        ignore=ignore,
        background=background,
        source=str(label_map),
    )
    images, masks = files_by_stem(rgb, IMAGE_SUFFIXES), files_by_stem(mask, (".png",))
    _check_some(images, rgb)
    files, findings = pair(_named(images), _named(masks))
    return FileReader(
        known.labels,
        files,
        read=lambda name: _read(Path(name)),
        rule=known.rule,
        findings=findings,
    )


def _named(paths: Mapping[str, Path]) -> dict[str, str]:
    return {stem: str(path) for stem, path in paths.items()}


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
