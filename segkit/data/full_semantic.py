"""The data set full_semantic as TFDS builds it: its features, how it is filled, how it is opened.

The builder in datasets/full_semantic/ is a few lines over `dataset_info`, `split_generators` and
VERSION. A built data set describes itself: training reads it without the builder's code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from segkit.data.archive import ARCHIVE_NAME, Archive, default_data_dir, next_steps
from segkit.errors import DataError
from segkit.labels import LabelMap

__all__ = [
    "MANUAL_DOWNLOAD_INSTRUCTIONS",
    "NAME",
    "VERSION",
    "FullSemantic",
    "dataset_info",
    "open_dataset",
    "split_generators",
]

NAME = "full_semantic"
VERSION = "1.0.0"
MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
Place {ARCHIVE_NAME} there. It comes from a labelled set, such as an export of CVAT in the format
'Segmentation mask 1.1':

    python -m segkit prepare --data cvat:EXPORT --output {ARCHIVE_NAME}

or is made by hand: a zip of rgb/<name>.png or .jpg and gt/<name>.png, which are 8-bit masks of
class ids, 255 ignored.
"""
_LABEL_MAP = "labelmap"


@dataclass(frozen=True)
class FullSemantic:
    """A built data set.

    Args:
        path: The folder of this version of it.
        labels: What the class ids of its masks mean.
    """

    path: Path
    labels: LabelMap

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self._builder.info.splits)

    def num_examples(self, split: str) -> int:
        """Number of examples in a split."""
        return int(self._builder.info.splits[self._known(split)].num_examples)

    def files(self, split: str) -> list[Path]:
        """The files that hold a split."""
        return [Path(path) for path in self._builder.info.splits[self._known(split)].filepaths]

    def num_bytes(self, split: str) -> int:
        """What the encoded examples of a split take."""
        return int(self._builder.info.splits[self._known(split)].num_bytes)

    def examples(self, split: str) -> tf.data.Dataset:
        """The examples of a split, one pass, always in the same order.

        Returns:
            Dicts of `image` uint8 (H, W, 3) RGB, `mask` uint8 (H, W), `stem` string.

        Raises:
            DataError: There is no such split.
        """
        return self.encoded(split).map(self.decode, num_parallel_calls=tf.data.AUTOTUNE)

    def shard_lengths(self, split: str) -> list[int]:
        """Number of examples in each of the files that hold a split."""
        return [int(n) for n in self._builder.info.splits[self._known(split)].shard_lengths]

    def encoded(self, split: str, *, part: tuple[int, int] | None = None) -> tf.data.Dataset:
        """As `examples`, but image files that `decode` takes.

        Args:
            split: Name of the split.
            part: First example and the one after the last; None: all of them.

        Raises:
            DataError: There is no such split.
        """
        name = self._known(split) + (f"[{part[0]}:{part[1]}]" if part else "")
        # TFDS would keep small sets decoded, asked or not: segkit.data.cache says what is kept.
        config = tfds.ReadConfig(try_autocache=False, skip_prefetch=True)
        as_stored = {"rgb": tfds.decode.SkipDecoding(), "gt": tfds.decode.SkipDecoding()}
        return self._builder.as_dataset(split=name, decoders=as_stored, read_config=config)

    def decode(self, stored: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """An example of `encoded` as `examples` has it."""
        image, mask = (
            self._builder.info.features[key].decode_example(stored[key]) for key in ("rgb", "gt")
        )
        return {"image": image, "mask": mask[..., 0], "stem": stored["stem"]}

    @cached_property
    def _builder(self) -> Any:
        return tfds.builder_from_directory(str(self.path))

    def _known(self, split: str) -> str:
        if split not in self.splits:
            raise DataError(
                f"'{self.path}' has no split '{split}'", expected="one of " + ", ".join(self.splits)
            )
        return split


def open_dataset(dataset_dir: Path | None = None, name: str = NAME) -> FullSemantic:
    """Opens a data set that `tfds build` made, the newest version of it.

    Args:
        dataset_dir: TFDS's data folder; None: TFDS_DATA_DIR or ~/tensorflow_datasets.
        name: The data set's name.

    Raises:
        DataError: It is not there (the message says how to make it), or knows no label map.
    """
    data_dir = default_data_dir() if dataset_dir is None else dataset_dir.expanduser().absolute()
    versions = _versions(data_dir / name)
    if not versions:
        there = sorted({info.parts[-3] for info in data_dir.glob("*/*/dataset_info.json")})
        copy, build = next_steps(Path(ARCHIVE_NAME), data_dir)
        raise DataError(
            f"the data set '{name}' is not in '{data_dir}'",
            expected=f"one of {', '.join(there)}" if there else "a built data set; there is none",
            next_step=f"put the archive of 'python -m segkit prepare' there and build it:\n"
            f"    {copy}\n    {build}",
        )
    path = versions[-1]
    metadata = tfds.builder_from_directory(str(path)).info.metadata or {}
    if _LABEL_MAP not in metadata:
        raise DataError(
            f"the data set '{path}' does not say what its class ids mean",
            expected="one built by datasets/full_semantic of this repository",
            next_step="build it again: cd datasets/full_semantic && tfds build --overwrite",
        )
    return FullSemantic(path, LabelMap.load(metadata[_LABEL_MAP], source=f"{path}/metadata.json"))


def dataset_info(builder: Any) -> Any:
    """The tfds.core.DatasetInfo of the builder: features, and room for the label map."""
    return tfds.core.DatasetInfo(
        builder=builder,
        description="Images and masks of class ids (255 ignored) from full_semantic.zip.",
        features=tfds.features.FeaturesDict(
            {
                "rgb": tfds.features.Image(shape=(None, None, 3)),
                "gt": tfds.features.Image(shape=(None, None, 1)),
                "stem": tfds.features.Text(),
            }
        ),
        supervised_keys=("rgb", "gt"),
        metadata=tfds.core.MetadataDict(),
    )


def split_generators(builder: Any, manual_dir: Path) -> dict[str, Iterator[Any]]:
    """What the builder's `_split_generators` returns; puts the label map into its metadata.

    Raises:
        DataError: The archive is missing, damaged or inconsistent.
    """
    path = manual_dir / ARCHIVE_NAME
    if not path.is_file():
        raise DataError(
            f"'{path}' does not exist",
            expected=f"{ARCHIVE_NAME} in the manual folder",
            next_step=MANUAL_DOWNLOAD_INSTRUCTIONS.strip(),
        )
    archive = Archive(path)
    builder.info.metadata[_LABEL_MAP] = archive.labels.dump()
    return {split: _generate(archive, split) for split in archive.splits}


def _generate(archive: Archive, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for stem, image, mask in archive.entries(split):
        yield stem, {"rgb": image, "gt": mask, "stem": stem}


def _versions(folder: Path) -> list[Path]:
    """The built versions in a data set's folder, oldest first."""
    built = [info.parent for info in folder.glob("*/dataset_info.json")]
    numbered = [path for path in built if path.name.replace(".", "").isdigit()]
    return sorted(numbered, key=lambda path: [int(part) for part in path.name.split(".")])
