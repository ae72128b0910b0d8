"""Decoded images on disk: one file an example, so that they can be read in any order.

<folder>/train-<state>/0, 1, 2, ...    image (H, W, 3), then mask (H, W), as they are in memory
<folder>/train-<state>/sizes.npy       heights and widths
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from segkit.data.transforms import Example

__all__ = ["DiskCache", "digest"]

_SIZES = "sizes.npy"


@dataclass(frozen=True)
class DiskCache:
    """The place of the decoded examples of something in a certain state.

    Args:
        folder: Where caches of the same data set are.
        name: Of what it holds.
        state: A digest of what it was made from; with another one it is another cache.
    """

    folder: Path
    name: str
    state: str

    @property
    def path(self) -> Path:
        """The folder of the examples."""
        return self.folder / f"{self.name}-{self.state}"

    @property
    def is_complete(self) -> bool:
        """Whether it can be read: its folder gets its name when it has been written."""
        return os.path.isdir(self.path)

    def fill(self, make_examples: Callable[[], tf.data.Dataset]) -> None:
        """Writes the examples, unless they are there; removes those of other states.

        Another process that writes them is waited for.

        Args:
            make_examples: Dicts of `image` uint8 (H, W, 3) and `mask` uint8 (H, W).

        Raises:
            OSError: It cannot be written, or the disk is full. Nothing is left then.
        """
        if self.is_complete:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder / "lock"):
            if self.is_complete:
                return
            for outdated in self.folder.glob(f"{self.name}-*"):
                shutil.rmtree(outdated)
            partial = self.path.with_name(f"{self.path.name}.partial")
            try:
                _write(make_examples(), partial)
                partial.rename(self.path)
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    def numbers(self) -> tf.data.Dataset:
        """What `load` takes, for each example, in the order in which they were written."""
        return tf.data.Dataset.range(len(np.load(self.path / _SIZES)))

    def load(self, number: tf.Tensor) -> Example:
        """The example of a number."""
        sizes = tf.constant(np.load(self.path / _SIZES), tf.int64)
        height, width = tf.unstack(sizes[number])
        file = tf.strings.join([f"{self.path}{os.sep}", tf.strings.as_string(number)])
        values = tf.io.decode_raw(tf.io.read_file(file), tf.uint8)
        end = 3 * height * width
        return {
            "image": tf.reshape(values[:end], tf.stack([height, width, 3])),
            "mask": tf.reshape(values[end:], tf.stack([height, width])),
        }


def digest(files: Iterable[Path], *more: object) -> str:
    """Tells states of files apart, by name, size and time, and whatever else matters."""
    parts: list[object] = list(more)
    for file in files:
        status = file.stat()
        parts.append((file.name, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _write(examples: tf.data.Dataset, folder: Path) -> None:
    folder.mkdir()
    sizes = []
    for number, example in enumerate(examples.as_numpy_iterator()):
        with (folder / str(number)).open("wb") as file:
            file.write(example["image"].tobytes())
            file.write(example["mask"].tobytes())
        sizes.append(example["mask"].shape)
    np.save(folder / _SIZES, np.array(sizes, np.int32).reshape(-1, 2))
    os.sync()  # after a power cut, a folder with its final name has what was written into it


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone in here among all processes; one that dies lets go."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
