"""What every reader of a labelled set gives: a label map, and samples that load when asked.

A reader is made of what it can use, and keeps what does not fit as findings: `check-data` shows
them all, everything else refuses them by `require_complete`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from segkit.errors import DataError
from segkit.labels import LabelMap

__all__ = ["Finding", "Kind", "Pair", "Reader", "Sample", "SampleError", "require_complete"]

_SHOWN = 10


class Kind(StrEnum):
    """What can be wrong with a file of a labelled set."""

    IMAGE_WITHOUT_MASK = "image without a mask"
    MASK_WITHOUT_IMAGE = "mask without an image"
    LISTED_WITHOUT_IMAGE = "listed name without an image"
    SAME_NAME = "two files of one name"
    DAMAGED_IMAGE = "image that cannot be read"
    DAMAGED_MASK = "mask that cannot be read"
    SIZE = "image and mask of two sizes"
    UNKNOWN_ID = "class id that the label map does not have"
    UNKNOWN_COLOR = "colour that the label map does not have"
    BINARY = "mask of nothing but 0 and 255"
    PALETTE_AS_COLORS = "mask of a palette's colours instead of its indices"
    LEAK = "image in two splits"
    SAME_PICTURE_IN_SPLITS = "one picture in two splits"
    SAME_PICTURE = "one picture twice"
    CLASS_MISSING_IN_TRAIN = "class of val that train does not have"
    ONE_CLASS = "masks of a single class"
    CLASS_NEVER_SEEN = "class that no mask has"
    NOTHING_LABELLED = "mask of which every pixel is ignored"
    EMPTY_SPLIT = "split without images"


class Finding(NamedTuple):
    """One thing that is wrong: what, with which file, in how far, and how to mend it."""

    kind: Kind
    file: str
    problem: str
    next_step: str


class SampleError(DataError):
    """A sample that cannot be loaded.

    Args:
        finding: What is wrong with it.
        expected: What was expected.
    """

    def __init__(self, finding: Finding, *, expected: str = "") -> None:
        super().__init__(finding.problem, expected=expected, next_step=finding.next_step)
        self.finding = finding


class Pair(NamedTuple):
    """An image and its mask.

    `image` is the encoded file as it was found, `suffix` ".jpg" or ".png" by its content, and
    `mask` uint8, (H, W), class ids and IGNORE_ID, of the image's size.
    """

    image: bytes
    suffix: str
    mask: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One labelled image of a set, not loaded yet.

    Args:
        stem: The image's name without suffix; may contain `/`. Unique in its set.
        split: "train", "val" or "test" where the set itself says so, else None.
        load: Reads image and mask, and checks that they fit. Called from worker threads. Raises
            a SampleError that names the file.
    """

    stem: str
    split: str | None
    load: Callable[[], Pair]


class Reader(Protocol):
    """A labelled set on disk."""

    @property
    def labels(self) -> LabelMap:
        """What the class ids of the masks mean."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the names alone: what does not pair, what two splits share."""

    def __len__(self) -> int:
        """How many samples there are."""

    def __iter__(self) -> Iterator[Sample]:
        """The samples, in the order of their stems."""


def require_complete(reader: Reader) -> None:
    """Refuses a set of which some files do not fit.

    Raises:
        DataError: The message names the kind that is found first, and up to ten files.
    """
    if reader.findings:
        first = reader.findings[0]
        others = [finding.file for finding in reader.findings[1:] if finding.kind == first.kind]
        names = ", ".join(f"'{file}'" for file in others[: _SHOWN - 1])
        more = ", ..." if len(others) >= _SHOWN else ""
        raise DataError(
            first.problem + (f"; likewise {len(others)} more: {names}{more}" if others else ""),
            expected="a set in which everything pairs; 'python -m segkit check-data' shows all "
            f"that is wrong ({len(reader.findings)} in all)",
            next_step=first.next_step,
        )
