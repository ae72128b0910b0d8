"""full_semantic.zip: what `segkit prepare` packs and the TFDS builder reads.

    rgb/<stem>.jpg or .png     the images, byte for byte as they were found
    gt/<stem>.png              8-bit class ids, 255 ignored
    labelmap.txt               name:r,g,b:: , the line is the class id
    train.txt val.txt          stems, one a line; test.txt where there is one

Only rgb/ and gt/ have to be there: a zip made by hand gets classes named by number, and a split
by source image.
"""

from __future__ import annotations

import logging
import os
import shlex
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from segkit.data.images import IMAGE_SUFFIXES, check_image, encode_mask, open_mask
from segkit.data.reader import Reader, Sample
from segkit.data.splits import SPLITS, check_no_leak, split_by_source
from segkit.data.tree import Tree, open_tree
from segkit.errors import DataError, LabelMapError
from segkit.labels import IGNORE_ID, LabelMap

__all__ = [
    "ARCHIVE_NAME",
    "DEFAULT_VAL_SHARE",
    "Archive",
    "Entry",
    "Packed",
    "default_data_dir",
    "next_steps",
    "pack",
]

ARCHIVE_NAME = "full_semantic.zip"
DEFAULT_VAL_SHARE = 0.1

_RGB = "rgb/"
_GT = "gt/"
_LABEL_MAP = "labelmap.txt"
# A fixed time makes the same input give the same bytes.
_TIME = (1980, 1, 1, 0, 0, 0)

Item = TypeVar("Item")
Result = TypeVar("Result")
log = logging.getLogger(__name__)


class Packed(NamedTuple):
    """What `pack` wrote: path, stems of each split, pixels of each class id (255: ignored)."""

    path: Path
    splits: dict[str, list[str]]
    pixels: npt.NDArray[np.int64]


class Entry(NamedTuple):
    """One example: encoded image, and its mask as an 8-bit grey PNG of class ids."""

    stem: str
    image: bytes
    mask: bytes


def pack(
    reader: Reader,
    output: Path,
    *,
    val_share: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Packed:
    """Packs a labelled set. The file appears when it is complete, or not at all.

    Args:
        reader: The set.
        output: The zip file to write.
        val_share: Share of the source images for val. None: the set's own splits where it has
            them, else 0.1.
        seed: Seed of that split.
        overwrite: Replace an existing file.

    Raises:
        DataError: The file exists, or a sample cannot be used.
    """
    if output.exists() and not overwrite:
        raise DataError(
            f"'{output}' exists",
            expected="a new file",
            next_step="choose another --output, or replace it with --overwrite",
        )
    samples = list(reader)
    splits = _splits(samples, val_share, seed)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    pixels = np.zeros(256, np.int64)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "x") as archive:
            _add(archive, _LABEL_MAP, reader.labels.dump().encode())
            for split, stems in splits.items():
                _add(archive, f"{split}.txt", "".join(f"{stem}\n" for stem in stems).encode())
            for stem, image, suffix, mask, counts in _parallel(_load, samples):
                _add(archive, f"{_RGB}{stem}{suffix}", image)
                _add(archive, f"{_GT}{stem}.png", mask)
                pixels += counts
        partial.replace(output)
    except OSError as err:
        raise DataError(
            f"'{output}' cannot be written: {err.strerror}",
            expected="a file name in a folder that you may write to, with room for the images",
            next_step="choose another --output",
        ) from err
    finally:
        if partial.exists():
            partial.unlink()
    return Packed(output, splits, pixels)


class Archive:
    """A full_semantic.zip, checked and ready to be read.

    Args:
        path: The zip file.

    Raises:
        DataError: It is damaged, unsafe, or its images and masks do not pair.
        LabelMapError: Its labelmap.txt is malformed.

    Attributes:
        labels: What the class ids mean; classes named by number where there is no labelmap.txt.
        splits: Split -> stems.
    """

    def __init__(self, path: Path) -> None:
        self._tree = open_tree(path)
        self._root = _root(self._tree)
        self._images = _by_stem(self._tree, self._root + _RGB, IMAGE_SUFFIXES)
        self._masks = _by_stem(self._tree, self._root + _GT, (".png",))
        self._pair()
        self.splits = self._read_splits()
        self.labels = self._read_labels()

    def entries(self, split: str) -> Iterator[Entry]:
        """The examples of a split, each checked: size, kind of mask, class ids.

        Raises:
            DataError: The message names the file.
        """
        yield from _parallel(self._entry, self.splits[split])

    def _entry(self, stem: str) -> Entry:
        name = self._images[stem]
        image = self._tree.read(name)
        info = check_image(image, source=name)
        mask = self._mask(stem)
        if mask.shape != (info.height, info.width):
            raise DataError(
                f"image '{name}' is {info.width}x{info.height}, its mask '{self._masks[stem]}' "
                f"{mask.shape[1]}x{mask.shape[0]}",
                expected="an image and a mask of one size (width x height)",
            )
        too_large = mask[(mask >= self.labels.num_classes) & (mask != IGNORE_ID)]
        if too_large.size:
            raise LabelMapError(
                f"mask '{self._masks[stem]}' has {too_large.size:,} pixels of class ids up to "
                f"{too_large.max()}, but labelmap.txt defines 0..{self.labels.num_classes - 1}",
                expected="masks of class ids that labelmap.txt defines, the line is the id",
                next_step="add the missing labels to labelmap.txt",
            )
        return Entry(stem, image, encode_mask(mask))

    def _mask(self, stem: str) -> npt.NDArray[np.uint8]:
        name = self._masks[stem]
        values, _ = open_mask(self._tree.read(name), source=name)
        if values.ndim == 3:
            grey = values[..., 0]
            if (values != grey[..., None]).any():
                raise DataError(
                    f"mask '{name}' of '{self._tree.path}' has colours",
                    expected="class ids: a grey or a palette PNG",
                    next_step="make the archive with 'python -m segkit prepare --cvat EXPORT', "
                    "which knows the colours",
                )
            return grey
        return values

    def _pair(self) -> None:
        # Augmentation scripts in the wild write rgb/idx_3_rot_.png beside gt/idx_3_rot_mask.png.
        for stem in [x for x in self._masks if x not in self._images and x.endswith("mask")]:
            bare = stem.removesuffix("mask")
            owner = next((x for x in (bare, bare.rstrip("_")) if x in self._images), None)
            if owner is not None and owner not in self._masks:
                self._masks[owner] = self._masks.pop(stem)
        lonely = sorted(self._images.keys() ^ self._masks.keys())
        if lonely or not self._images:
            what = f"'{lonely[0]}' without its pair ({len(lonely)} in all)" if lonely else "nothing"
            raise DataError(
                f"'{self._tree.path}' has {what} in {_RGB} and {_GT}",
                expected=f"{_RGB}<name>.png or .jpg and {_GT}<name>.png for every image",
                next_step="make it with 'python -m segkit prepare', or in the folder that holds "
                f"{_RGB} and {_GT} with 'zip -r {ARCHIVE_NAME} .'",
            )

    def _read_splits(self) -> dict[str, list[str]]:
        paths = {split: f"{self._root}{split}.txt" for split in SPLITS}
        lists = {split: name for split, name in paths.items() if name in self._tree.names}
        if "train" not in lists or "val" not in lists:
            return split_by_source(self._images, val_share=DEFAULT_VAL_SHARE)
        splits = {split: _lines(self._tree, name) for split, name in lists.items()}
        for split, stems in splits.items():
            unknown = sorted(set(stems) - self._images.keys())
            if unknown or not stems:
                raise DataError(
                    f"{split}.txt of '{self._tree.path}' names "
                    + (f"'{unknown[0]}', which is not in {_RGB}" if unknown else "nothing"),
                    expected=f"names of files in {_RGB} without suffix, one a line",
                )
        check_no_leak(splits, source=str(self._tree.path))
        return splits

    def _read_labels(self) -> LabelMap:
        """The archive's label map, or else classes named by number, as many as the masks have."""
        name = self._root + _LABEL_MAP
        if name in self._tree.names:
            source = f"{self._tree.path}/{name}"
            return LabelMap.load("\n".join(_lines(self._tree, name)), source=source)
        log.info("%s has no %s: looking for the class ids in the masks", self._tree.path, name)
        used = np.zeros(256, bool)
        for ids in _parallel(lambda stem: np.unique(self._mask(stem)), sorted(self._masks)):
            used[ids] = True
        found = np.flatnonzero(used[:IGNORE_ID])
        if not found.any():
            raise DataError(
                f"the masks of '{self._tree.path}' hold only the values "
                f"{', '.join(map(str, np.flatnonzero(used)))}, which is one class",
                expected=f"class ids 0, 1, 2, ...; {IGNORE_ID} means ignored, not foreground",
                next_step=f"write 1 instead of {IGNORE_ID} into the masks",
            )
        return LabelMap.from_names(f"class_{id_}" for id_ in range(int(found[-1]) + 1))


def default_data_dir() -> Path:
    """Where TFDS keeps its data sets unless it is told otherwise."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def next_steps(archive: Path, data_dir: Path) -> tuple[str, str]:
    """The two shell commands that turn an archive into a TFDS data set under data_dir."""
    manual = data_dir / "downloads" / "manual"
    copy = ["cp", str(archive), str(manual / ARCHIVE_NAME)]
    build = ["tfds", "build"]
    if data_dir != default_data_dir():
        build += ["--data_dir", str(data_dir)]
    if (data_dir / Path(ARCHIVE_NAME).stem).is_dir():
        build.append("--overwrite")  # without it TFDS keeps what it built before
    return (
        f"mkdir -p {shlex.quote(str(manual))} && {shlex.join(copy)}",
        f"(cd datasets/full_semantic && {shlex.join(build)})",
    )


class _Loaded(NamedTuple):
    stem: str
    image: bytes
    suffix: str
    mask: bytes
    counts: npt.NDArray[np.int64]


def _load(sample: Sample) -> _Loaded:
    image, suffix, mask = sample.load()
    counts = np.bincount(mask.ravel(), minlength=256)
    return _Loaded(sample.stem, image, suffix, encode_mask(mask), counts)


def _splits(samples: list[Sample], val_share: float | None, seed: int) -> dict[str, list[str]]:
    own = {split: [x.stem for x in samples if x.split == split] for split in SPLITS}
    if val_share is None and own["train"] and own["val"]:
        return {split: stems for split, stems in own.items() if stems}
    share = DEFAULT_VAL_SHARE if val_share is None else val_share
    return split_by_source([x.stem for x in samples], val_share=share, seed=seed)


def _parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map` on all cores, in order, with no more results in memory than it needs to keep busy."""
    workers = os.cpu_count() or 1
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    # Stored, not deflated: JPEG and PNG do not shrink again.
    archive.writestr(zipfile.ZipInfo(name, _TIME), data)


def _root(tree: Tree) -> str:
    """The one folder that everything lies in, where somebody zipped the folder itself; else ""."""
    tops = {name.split("/", 1)[0] for name in tree.names if "/" in name}
    if len(tops) == 1 and _RGB[:-1] not in tops:
        return f"{tops.pop()}/"
    return ""


def _lines(tree: Tree, name: str) -> list[str]:
    """The lines of a text file that say something, each once."""
    lines = tree.read(name).decode("utf-8-sig", errors="replace").splitlines()
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))


def _by_stem(tree: Tree, folder: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in sorted(tree.names):
        suffix = os.path.splitext(name)[1]
        if name.startswith(folder) and suffix.lower() in suffixes:
            stem = name[len(folder) : -len(suffix)]
            if stem in found:
                raise DataError(
                    f"'{found[stem]}' and '{name}' of '{tree.path}' differ in the suffix only",
                    expected="one image a name: masks pair by name",
                )
            found[stem] = name
    return found
