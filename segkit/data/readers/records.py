"""Reads a data set that TFDS built: its TFRecord files, one example at a time.

TFDS's own reading decodes every image. Here the encoded bytes are wanted, in no fixed order, so
the files are walked once for the places of their records (format: u64 length, u32 crc, data, u32
crc, little endian; tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from segkit.data.reader import Finding, Pair, Sample
from segkit.data.readers.files import Files, load_pair
from segkit.data.readers.masks import MaskRule, id_table, without_label
from segkit.errors import DataError
from segkit.labels import LabelMap

__all__ = ["Fields", "RecordReader", "built_version", "is_built", "read_built"]

_INFO = "dataset_info.json"
_SPLIT_NAMES = {"train": "train", "validation": "val", "val": "val", "test": "test"}


class Fields(NamedTuple):
    """Names of the features: the encoded image, the encoded mask, the stem."""

    image: str
    mask: str
    stem: str


class RecordReader:
    """A labelled set as TFDS built it, see segkit.data.reader.Reader.

    Args:
        path: The folder of one version, with dataset_info.json.
        labels: The classes.
        rule: Turns a mask into class ids.
        fields: Names of the features.
        skip: Splits to leave out.

    Raises:
        DataError: Its files are no TFRecords, or one is cut off.
    """

    findings: tuple[Finding, ...] = ()

    def __init__(
        self,
        path: Path,
        labels: LabelMap,
        *,
        rule: MaskRule,
        fields: Fields,
        skip: tuple[str, ...] = (),
    ) -> None:
        self.labels = labels
        self._rule = rule
        self._fields = fields
        self._records = [
            (stem, split, file, place)
            for split, files in _files(path).items()
            if split not in skip
            for file in files
            for place, stem in _walk(file, fields)
        ]
        self._records.sort(key=lambda record: record[0])

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self._records)

    def __iter__(self) -> Iterator[Sample]:
        """The samples, in the order of their stems."""
        for stem, split, file, place in self._records:
            yield Sample(stem, split, partial(self._load, stem, file, place))

    def _load(self, stem: str, file: Path, place: int) -> Pair:
        example = _example(_read(file, place))
        image, mask = (_one(example, feature, file) for feature in self._fields[:2])
        names = Files(f"{stem} (image)", f"{stem} (mask)")
        return load_pair(names, image, mask, rule=self._rule)


def is_built(path: Path) -> bool:
    """Whether TFDS built a data set there, or in a folder below."""
    return path.is_dir() and built_version(path) is not None


def built_version(path: Path) -> Path | None:
    """The folder with dataset_info.json: `path`, or the newest of the versions below it."""
    found = [info.parent for info in path.glob(_INFO)] or sorted(
        (info.parent for depth in ("*/", "*/*/") for info in path.glob(depth + _INFO)),
        key=lambda folder: [int(x) if x.isdigit() else 0 for x in folder.name.split(".")],
    )
    return found[-1] if found else None


def read_built(path: Path, *, ignore: str | None = None) -> RecordReader:
    """Opens a full_semantic that `tfds build` made.

    Raises:
        DataError: It does not say what its class ids mean.
        LabelMapError: It has no class of that name.
    """
    version = built_version(path) or path
    try:
        content = json.loads((version / "metadata.json").read_text(encoding="utf-8"))["labelmap"]
    except (OSError, ValueError, KeyError) as err:
        raise DataError(
            f"the data set '{version}' does not say what its class ids mean",
            expected="one built by datasets/full_semantic of this repository",
            next_step="build it again: cd datasets/full_semantic && tfds build --overwrite",
        ) from err
    labels = LabelMap.load(content, source=f"{version}/metadata.json")
    table = id_table((id_, id_) for id_ in range(labels.num_classes))
    labels, table = without_label(labels, table, ignore)
    fields = Fields("rgb", "gt", "stem")
    return RecordReader(version, labels, rule=MaskRule(labels, table), fields=fields)


def _files(path: Path) -> dict[str, list[Path]]:
    """Split -> its files, in order."""
    try:
        info = json.loads((path / _INFO).read_text(encoding="utf-8"))
        if info.get("fileFormat", "tfrecord") != "tfrecord":
            raise DataError(
                f"the data set '{path}' is stored as {info['fileFormat']}",
                expected="tfrecord",
                next_step="build it again with 'tfds build --file_format tfrecord --overwrite'",
            )
        splits = [(split["name"], len(split["shardLengths"])) for split in info["splits"]]
    except (OSError, ValueError, KeyError) as err:
        raise DataError(
            f"'{path / _INFO}' cannot be read: {err}", expected="a data set that TFDS built"
        ) from err
    found = {}
    for name, count in splits:
        files = sorted(path.glob(f"*-{name}.tfrecord-*-of-{count:05}"))
        if len(files) != count:
            raise DataError(
                f"'{path}' has {len(files)} of the {count} files of the split {name}",
                next_step="build it again with 'tfds build --overwrite'",
            )
        found[_SPLIT_NAMES.get(name, name)] = files
    return found


def _walk(file: Path, fields: Fields) -> Iterator[tuple[int, str]]:
    """Place and stem of every record."""
    size = file.stat().st_size
    place = 0
    while place < size:
        data = _read(file, place)
        yield place, _one(_example(data), fields.stem, file).decode()
        place += len(data) + 16


def _read(file: Path, place: int) -> bytes:
    with file.open("rb") as stream:
        stream.seek(place)
        header = stream.read(12)
        length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else 0
        data = stream.read(length)
    if not length or len(data) < length:
        raise DataError(
            f"'{file}' is cut off",
            expected="a whole TFRecord file",
            next_step="build the data set again with 'tfds build --overwrite'",
        )
    return data


def _example(data: bytes) -> Mapping[str, Any]:
    import tensorflow as tf  # seconds; only this kind of set needs it

    feature: Mapping[str, Any] = tf.train.Example.FromString(data).features.feature
    return feature


def _one(example: Mapping[str, Any], name: str, file: Path) -> bytes:
    values = example[name].bytes_list.value if name in example else []
    if len(values) != 1:
        raise DataError(
            f"the examples of '{file}' have no feature '{name}'",
            expected="the features " + ", ".join(sorted(example)),
        )
    return bytes(values[0])
