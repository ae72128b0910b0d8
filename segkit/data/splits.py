"""Train, val and test: which image goes where. Copies of one image never part."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from segkit.data.reader import Finding, Kind
from segkit.errors import DataError

__all__ = ["SPLITS", "leaks", "source_of", "split_by_source"]

SPLITS = ("train", "val", "test")

# `<source>.aug<N>` is segkit's own name for the Nth altered copy of an image; `idx_<N>_...` is how
# data_augmentation scripts in the wild name the copies of the Nth image.
_COPY = re.compile(r"^(?P<source>.+)\.aug\d+$")
_NUMBERED = re.compile(r"^(?P<source>(?:.*/)?idx_\d+)_[^/]*$")


def source_of(stem: str) -> str:
    """The stem of the image that this one is an augmented copy of; its own if it is none."""
    match = _COPY.match(stem) or _NUMBERED.match(stem)
    return source_of(match["source"]) if match else stem


def split_by_source(
    stems: Iterable[str], *, val_share: float, seed: int = 0
) -> dict[str, list[str]]:
    """Splits into train and val so that all copies of a source image are on one side.

    The same stems, share and seed give the same split, in any order and on any machine.

    Args:
        stems: What to split.
        val_share: Share of the source images that go to val, 0..1. At least one goes to each side.
        seed: Another seed gives another split.

    Returns:
        "train" and "val" -> sorted stems.

    Raises:
        DataError: There are fewer than two source images.
    """
    stems = sorted(stems)
    sources = {source_of(stem) for stem in stems}
    if len(sources) < 2:
        raise DataError(
            f"there are {len(sources)} source images to split into train and val",
            expected="at least two (augmented copies of one image count as one)",
            next_step="label more images",
        )
    ranked = sorted(sources, key=lambda source: _rank(source, seed))
    val = set(ranked[: min(len(ranked) - 1, max(1, round(val_share * len(ranked))))])
    return {
        "train": [stem for stem in stems if source_of(stem) not in val],
        "val": [stem for stem in stems if source_of(stem) in val],
    }


def leaks(splits: Mapping[str, Iterable[str]]) -> list[Finding]:
    """Images, or copies of one, that are in two splits: scores on them would mean nothing.

    Args:
        splits: Split -> stems.
    """
    seen: dict[str, tuple[str, str]] = {}
    findings = []
    for split, stems in splits.items():
        for stem in stems:
            other, first = seen.setdefault(source_of(stem), (split, stem))
            if other != split:
                problem = (
                    f"'{first}' is in {other} and '{stem}' in {split}, which are the same image or "
                    "copies of one"
                )
                findings.append(Finding(Kind.LEAK, stem, problem, _MEND_LEAK))
    return findings


_MEND_LEAK = "correct the lists, or let 'prepare --val_share 0.1' make the split"


def _rank(source: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{source}".encode()).digest()
