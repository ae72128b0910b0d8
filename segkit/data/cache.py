"""Opens the examples of a data set for training; decodes them once where there is room for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import tensorflow as tf

from segkit.data.disk_cache import DiskCache, digest
from segkit.data.full_semantic import FullSemantic
from segkit.data.pipeline import Examples
from segkit.data.room import free_disk, free_memory
from segkit.data.transforms import Example
from segkit.errors import ConfigError

__all__ = ["Kind", "open_examples"]

Kind = Literal["auto", "memory", "disk", "none"]

# What is not taken of its own accord: the other half is for training and for everybody else.
_SHARE = 0.5
# Up to so many bytes of image files are kept in memory and shuffled as a whole.
_SHUFFLE_BYTES = 1 << 30
# So many examples tell how large the others are: TFDS stores them in random order.
_MEASURED = 32


def open_examples(
    dataset: FullSemantic,
    splits: Sequence[str],
    *,
    cache: Kind = "auto",
    cache_dir: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[Examples]:
    """The examples of splits.

    They come in the same order with every kind of cache, but with "none" if a split has more than
    1 GiB of image files.

    Args:
        dataset: The data set.
        splits: Names of its splits.
        cache: Where decoded images are kept; "auto": in memory if they take no more than half of
            what is free, else on disk if it is so there, else nowhere.
        cache_dir: Where caches on disk are. None: `cache`, beside the versions of the data set.
        report: Takes the line that says where they are kept, and why.

    Raises:
        ConfigError: There is no room where they should be kept, or no leave to write.
        DataError: There is no such split.
    """
    parts = [_Part(dataset, split) for split in splits]
    data_path = dataset.path.absolute()
    folder = (cache_dir or data_path.parent / "cache").expanduser().absolute()
    folder /= f"{data_path.parent.name}-{data_path.name}-{digest([], data_path)}"
    on_disk = [part.disk_cache(folder) for part in parts]

    chosen, reason = cache, "as asked"
    if cache != "none":
        size = sum(part.decoded_bytes for part in parts)
        written = all(kept.is_complete for kept in on_disk)
        chosen, reason = _choose(cache, size, folder, written=written)
    report(f"cache: {chosen}, {reason}")
    if chosen == "memory":
        return [part.kept_in_memory() for part in parts]
    if chosen == "disk":
        try:
            for part, kept in zip(parts, on_disk, strict=True):
                kept.fill(part.decoded)
            return [
                Examples(kept.numbers(), kept.load, stems=part.stems)
                for part, kept in zip(parts, on_disk, strict=True)
            ]
        except OSError as err:
            problem = f"'{folder}' cannot be written: {err.strerror}"
            if cache == "disk":
                raise ConfigError(
                    f"--cache disk: {problem}",
                    expected="a folder to write to, on a disk with room",
                    next_step="name one with --cache_dir, or leave --cache out",
                ) from err
            report(f"cache: none, {problem}")
    return [part.not_kept() for part in parts]


@dataclass(frozen=True)
class _Part:
    """The examples of a split."""

    dataset: FullSemantic
    split: str

    def encoded(self) -> tf.data.Dataset:
        return self.dataset.encoded(self.split)

    def stems(self) -> list[str]:
        return [stored["stem"].decode() for stored in self.encoded().as_numpy_iterator()]

    def decode(self, stored: Example) -> Example:
        example = self.dataset.decode(stored)
        return {"image": example["image"], "mask": example["mask"]}

    def decoded(self) -> tf.data.Dataset:
        return self.encoded().map(self.decode, num_parallel_calls=tf.data.AUTOTUNE)

    @cached_property
    def decoded_bytes(self) -> int:
        """About what they take in memory, or on disk."""
        measured = [
            example["mask"].size for example in self.decoded().take(_MEASURED).as_numpy_iterator()
        ]
        return 4 * sum(measured) * self.dataset.num_examples(self.split) // len(measured)

    def kept_in_memory(self) -> Examples:
        return Examples(self.decoded().cache(), stems=self.stems)

    def not_kept(self) -> Examples:
        """Image files, decoded whenever they are used."""
        stored_bytes = self.dataset.num_bytes(self.split)
        total = self.dataset.num_examples(self.split)
        if stored_bytes <= _SHUFFLE_BYTES:
            return Examples(self.encoded().cache(), self.decode, stems=self.stems)
        room = max(1, _SHUFFLE_BYTES * total // stored_bytes)
        return Examples(self.encoded(), self.decode, self._files(), room, stems=self.stems)

    def _files(self) -> tuple[tf.data.Dataset, ...]:
        """What each file holds."""
        ends = itertools.accumulate(self.dataset.shard_lengths(self.split))
        return tuple(
            self.dataset.encoded(self.split, part=part)
            for part in itertools.pairwise(sorted({0, *ends}))
        )

    def disk_cache(self, folder: Path) -> DiskCache:
        return DiskCache(folder, self.split, digest(self.dataset.files(self.split)))


def _choose(cache: Kind, size: int, folder: Path, *, written: bool) -> tuple[Kind, str]:
    """The kind, and why; `written`: on disk they are already."""
    free = {"memory": free_memory(), "disk": free_disk(folder)}
    kinds: tuple[Kind, ...] = ("memory", "disk") if cache == "auto" else (cache,)
    share = _SHARE if cache == "auto" else 1.0
    for kind in kinds:
        if kind == "disk" and written:
            return kind, f"found in '{folder}'"
        if size <= share * free[kind]:
            place = f", in '{folder}'" if kind == "disk" else ""
            return kind, f"{_gib(size)} of {_gib(free[kind])} GiB free{place}"
    if cache != "auto":
        raise ConfigError(
            f"--cache {cache}: the decoded images take {_gib(size)} GiB",
            expected=f"no more than what is free, {_gib(free[cache])} GiB",
            next_step="leave --cache out: it then chooses what fits",
        )
    return "none", (
        f"the decoded images take {_gib(size)} GiB, more than half of what is free in memory "
        f"({_gib(free['memory'])}) and on disk ({_gib(free['disk'])})"
    )


def _gib(size: int) -> str:
    """Three digits, as people read them."""
    value = size / 2**30
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
