"""full_semantic.zip: what `segkit prepare` packs and the TFDS builder reads.

    rgb/<stem>.jpg or .png     the images, byte for byte as they were found
    gt/<stem>.png              8-bit class ids, 255 ignored
    labelmap.txt               name:r,g,b:: , the line is the class id
    train.txt val.txt          stems, one a line; test.txt where there is one

Only rgb/ and gt/ have to be there: a zip made by hand gets classes named by number, and a split
by source image.
"""

from __future__ import annotations

import os
import shlex
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segkit.data.images import encode_mask
from segkit.data.parallel import in_order
from segkit.data.reader import Reader, Sample, require_complete
from segkit.data.readers.full_semantic import read_archive
from segkit.data.splits import SPLITS, split_by_source
from segkit.errors import DataError

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
        DataError: The file exists, some files of the set do not fit, or a sample cannot be used.
    """
    require_complete(reader)
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
            for stem, image, suffix, mask, counts in in_order(_load, samples):
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
        reader = read_archive(path)
        require_complete(reader)
        self.labels = reader.labels
        self._samples = {sample.stem: sample for sample in reader}
        self.splits = _splits(list(self._samples.values()), None, 0)

    def entries(self, split: str) -> Iterator[Entry]:
        """The examples of a split, each checked: size, kind of mask, class ids.

        Raises:
            DataError: The message names the file.
        """
        samples = [self._samples[stem] for stem in self.splits[split]]
        for stem, image, _, mask, _ in in_order(_load, samples):
            yield Entry(stem, image, mask)


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
    # Beside a val, what has no split of its own is for training.
    own = {s: [x.stem for x in samples if (x.split or "train") == s] for s in SPLITS}
    if val_share is None and {"train", "val"} <= {sample.split for sample in samples}:
        return {split: stems for split, stems in own.items() if stems}
    share = DEFAULT_VAL_SHARE if val_share is None else val_share
    return split_by_source([x.stem for x in samples], val_share=share, seed=seed)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    # Stored, not deflated: JPEG and PNG do not shrink again.
    archive.writestr(zipfile.ZipInfo(name, _TIME), data)
