"""Some images of a labelled set, a folder or a video: what exports are proved and calibrated on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from segkit.data.images import IMAGE_SUFFIXES, check_image
from segkit.data.parallel import in_order
from segkit.data.reader import Sample
from segkit.data.readers import open_reader
from segkit.errors import ConfigError, DataError
from segkit.labels import IGNORE_ID, LabelMap
from segkit.video.sources import FileSource

__all__ = ["UNLABELED", "RealImage", "RealImages", "read_images"]

UInt8 = npt.NDArray[np.uint8]
T = TypeVar("T")

UNLABELED = "images"  # the KIND of a folder of images, an image or a video without labels
_VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm")


@dataclass(frozen=True, kw_only=True)
class RealImage:
    """An image that a model is shown.

    Args:
        stem: Its name.
        image: uint8, (H, W, 3), RGB.
        truth: Class ids of the model that is shown it, uint8, (H, W), 255 ignored; None: no labels.
    """

    stem: str
    image: UInt8
    truth: UInt8 | None = None


@dataclass(frozen=True, kw_only=True)
class RealImages:
    """What `read_images` read.

    Args:
        source: Where from, in words.
        images: The images; one or more.
        unscored: Classes of the set that the model does not have: their pixels are ignored.
    """

    source: str
    images: tuple[RealImage, ...]
    unscored: tuple[str, ...] = ()

    @property
    def labeled(self) -> bool:
        """Whether they have labels."""
        return self.images[0].truth is not None


def read_images(data: str, labels: LabelMap, *, limit: int, split: str = "val") -> RealImages:
    """Reads some images, spread evenly over all there are.

    Labels are matched by the names of the classes, so that a set in another order of classes
    cannot pass for this one.

    Args:
        data: KIND:PATH of a labelled set (segkit.data.readers), or images:PATH of a folder of
            images, an image or a video.
        labels: The model's classes.
        limit: How many at most.
        split: The split to take where the set has one of that name, else all of it.

    Raises:
        ConfigError: `data` is no KIND:PATH.
        DataError: It holds no image, one cannot be decoded, or it has none of the model's classes.
    """
    kind, _, path = data.partition(":")
    if kind == UNLABELED and path:
        images = _read_unlabeled(Path(path).expanduser(), limit)
        return RealImages(source=data, images=tuple(images))
    try:
        reader = open_reader(data)
    except ConfigError as err:
        raise ConfigError(
            err.problem,
            expected=f"{err.expected}; or {UNLABELED}:PATH for images without labels",
            next_step=err.next_step,
        ) from err
    table, unscored = _ids_by_name(reader.labels, labels, source=data)
    samples = list(reader)
    samples = [sample for sample in samples if sample.split == split] or samples
    if not samples:
        raise DataError(f"'{data}' holds no image", expected="a labelled set with images")
    images = list(in_order(lambda sample: _read_labeled(sample, table), _spread(samples, limit)))
    return RealImages(source=data, images=tuple(images), unscored=unscored)


def _ids_by_name(
    given: LabelMap, wanted: LabelMap, *, source: str
) -> tuple[UInt8, tuple[str, ...]]:
    """A table from the set's class ids to the model's, and the names of those it does not have."""
    table = np.full(256, IGNORE_ID, np.uint8)
    for id_, name in enumerate(given.names):
        if name in wanted.names:
            table[id_] = wanted.names.index(name)
    unscored = tuple(name for name in given.names if name not in wanted.names)
    if len(unscored) == given.num_classes:
        raise DataError(
            f"'{source}' has none of the model's classes: its own are {', '.join(given.names)}",
            expected=f"some of {', '.join(wanted.names)}",
            next_step="give a set of the kind that the model was trained on, or "
            f"{UNLABELED}:PATH to do without labels",
        )
    return table, unscored


def _read_labeled(sample: Sample, table: UInt8) -> RealImage:
    pair = sample.load()
    return RealImage(
        stem=sample.stem, image=_decode(pair.image, sample.stem), truth=table[pair.mask]
    )


def _read_unlabeled(path: Path, limit: int) -> list[RealImage]:
    if path.suffix.lower() in _VIDEO_SUFFIXES:
        with FileSource(path) as source:
            kept = _sampled((frame.image for frame in source), limit)
        return [RealImage(stem=f"frame {index}", image=image) for index, image in kept]
    files = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
    files = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise DataError(
            f"'{path}' holds no image" if path.exists() else f"'{path}' does not exist",
            expected=f"a folder of {', '.join(IMAGE_SUFFIXES)} files, one of them, or a video "
            f"({', '.join(_VIDEO_SUFFIXES)})",
        )
    return [
        RealImage(stem=file.stem, image=_decode(file.read_bytes(), str(file)))
        for file in _spread(files, limit)
    ]


def _decode(data: bytes, source: str) -> UInt8:
    """uint8, (H, W, 3), RGB; not turned by its EXIF, as labels are not."""
    check_image(data, source=source)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _spread(items: Sequence[T], limit: int) -> list[T]:
    """`limit` of them at even distances; all if there are no more."""
    if len(items) <= limit:
        return list(items)
    return [items[int((index + 0.5) * len(items) / limit)] for index in range(limit)]


def _sampled(items: Iterable[T], limit: int) -> list[tuple[int, T]]:
    """`_spread` over what is not known to be how long, with its places; keeps twice the limit."""
    kept: list[tuple[int, T]] = []
    stride = 1
    for index, item in enumerate(items):
        if index % stride == 0:
            kept.append((index, item))
        if len(kept) == 2 * limit:
            kept = kept[::2]
            stride *= 2
    return _spread(kept, limit)
