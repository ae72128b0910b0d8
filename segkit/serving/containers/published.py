"""What was published: models, their versions, and what each is built and warmed up for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from segkit import contract
from segkit.contract import Metadata
from segkit.errors import ExportError
from segkit.serving.folder import SAVED_MODEL_FILE, list_versions

__all__ = ["PublishedModel", "PublishedVersion", "find_versions", "read_model"]

PROFILE_SIZES = re.compile(r"batch (\d+(?:, \d+)*)")  # of EngineSettings.profiles
ON_GPU = ("variables", "assets")  # weights; engines of TensorRT
PUBLISH_AGAIN = "publish it again by `python -m segkit export --batch_sizes {}`"


@dataclass(frozen=True, kw_only=True)
class PublishedVersion:
    """One version.

    Args:
        number: Its number.
        path: Its folder.
        metadata: What it says of itself.
        weight_bytes: Size of its weights and engines on disk.
    """

    number: int
    path: Path
    metadata: Metadata
    weight_bytes: int

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """What it is warmed up for, and its engines are built for; ascending."""
        return tuple(sorted(self.metadata.batch_sizes))


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """A model that is to be served.

    Args:
        name: By which clients ask for it.
        base_path: The folder of its versions on this machine.
        versions: Those to be served, the lowest number first.
    """

    name: str
    base_path: Path
    versions: tuple[PublishedVersion, ...]


def find_versions(base_path: Path) -> dict[int, Path]:
    """Version number -> its folder.

    Raises:
        ExportError: There is none, or a numbered folder holds no model.
    """
    versions = list_versions(base_path) if base_path.is_dir() else {}
    if not versions:
        raise ExportError(
            f"there is no version in '{base_path}'",
            expected="a folder of numbered versions, as `python -m segkit export` writes it",
            next_step="publish one, or correct --model_base_path",
        )
    for child in sorted(base_path.iterdir()):
        if child.name.isascii() and child.name.isdigit() and int(child.name) not in versions:
            raise ExportError(
                f"'{child}' has the name of a version, but no {SAVED_MODEL_FILE}",
                expected="complete versions alone: TensorFlow Serving tries to load this one, and "
                "fails",
                next_step="remove or rename it",
            )
    return versions


def read_model(name: str, base_path: Path, numbers: Sequence[int]) -> PublishedModel:
    """Reads some versions of a model.

    Raises:
        ExportError: One is not complete, or its batch sizes contradict each other.
    """
    paths = find_versions(base_path)
    versions = tuple(_read_version(number, paths[number]) for number in sorted(numbers))
    return PublishedModel(name=name, base_path=base_path, versions=versions)


def _read_version(number: int, path: Path) -> PublishedVersion:
    for name in (contract.METADATA_FILE, contract.WARMUP_FILE, "variables"):
        if not (path / name).exists():
            raise ExportError(
                f"the version '{path}' has no {name}",
                expected="a version as `python -m segkit export` writes it",
                next_step="publish it again, and remove this one",
            )
    _check_readable(path)
    record = path / contract.METADATA_FILE
    metadata = Metadata.from_json(record.read_bytes(), source=f"'{record}'")
    version = PublishedVersion(
        number=number, path=path, metadata=metadata, weight_bytes=_weight_bytes(path)
    )
    _check_engines(version)
    _check_warmup(version)
    return version


def _check_readable(path: Path) -> None:
    """The server in the container is another user."""
    for item in (path.parent, path, *path.rglob("*")):
        needed = 0o005 if item.is_dir() else 0o004
        if item.stat().st_mode & needed != needed:
            raise ExportError(
                f"'{item}' cannot be read by the server's user",
                expected="files and folders that everybody may read, as `segkit export` leaves "
                "them; the folder of the versions, too",
                next_step=f"chmod --recursive a+rX {path.parent}",
            )


def _check_engines(version: PublishedVersion) -> None:
    profiles = version.metadata.tensorrt.get("profiles")
    if profiles is None:
        return
    found = PROFILE_SIZES.search(profiles)
    built = tuple(sorted(map(int, found[1].split(", ")))) if found else ()
    if built != version.batch_sizes:
        raise ExportError(
            f"the engines of '{version.path}' are built for batch sizes {_join(built)}, its "
            f"{contract.METADATA_FILE} says {_join(version.batch_sizes)}",
            expected="the same: another size would run without TensorRT, slowly and without a word",
            next_step="convert it again by convert_to_tensorRT.py --batch_sizes "
            f"{_join(version.batch_sizes)}",
        )


def _check_warmup(version: PublishedVersion) -> None:
    found = _warmup_sizes(version.path / contract.WARMUP_FILE)
    for signature in contract.SIGNATURES:
        sizes = tuple(sorted(found.get(signature, ())))
        if sizes != version.batch_sizes:
            raise ExportError(
                f"the warm-up records of '{version.path}' have batch sizes "
                f"{_join(sizes)} for the signature {signature}, its {contract.METADATA_FILE} says "
                f"{_join(version.batch_sizes)}",
                expected="the same: the first request of another size would take seconds",
                next_step=PUBLISH_AGAIN.format(_join(version.batch_sizes)),
            )


def _warmup_sizes(path: Path) -> dict[str, set[int]]:
    """Signature -> batch sizes of its records."""
    sizes: dict[str, set[int]] = {}
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            for tensor in request.inputs.values():
                batch = tensor.tensor_shape.dim[0].size if tensor.tensor_shape.dim else 0
                sizes.setdefault(request.model_spec.signature_name, set()).add(batch)
    except (tf.errors.OpError, DecodeError) as err:
        raise ExportError(
            f"the warm-up records '{path}' cannot be read ({err})",
            expected="a TFRecord file of PredictionLog",
            next_step="publish the version again, and remove this one",
        ) from err
    return sizes


def _weight_bytes(path: Path) -> int:
    return sum(
        file.stat().st_size
        for folder in ON_GPU
        for file in (path / folder).rglob("*")
        if file.is_file()
    )


def _join(sizes: Sequence[int]) -> str:
    return " ".join(map(str, sizes)) or "none"
