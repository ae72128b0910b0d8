"""What every reader of a labelled set gives: a label map, and samples that load when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from segkit.labels import LabelMap

__all__ = ["Pair", "Reader", "Sample"]


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
            a DataError that names the file.
    """

    stem: str
    split: str | None
    load: Callable[[], Pair]


class Reader(Protocol):
    """A labelled set on disk."""

    @property
    def labels(self) -> LabelMap:
        """What the class ids of the masks mean."""

    def __len__(self) -> int:
        """How many samples there are."""

    def __iter__(self) -> Iterator[Sample]:
        """The samples, in the order of their stems."""
