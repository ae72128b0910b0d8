"""A checkpoint: the weights of a network in one HDF5 file, with a record of what they belong to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import tensorflow as tf

from segkit.errors import CheckpointError
from segkit.labels import Label, LabelMap
from segkit.models import build_model, inference_model
from segkit.models.layers import ResizeMethod
from segkit.models.pretrained import read_layers, set_layers
from segkit.runs import replacing

__all__ = [
    "CheckpointRecord",
    "checkpoint_file",
    "digest",
    "load_checkpoint",
    "read_record",
    "save_checkpoint",
]

_ATTRIBUTE = "segkit"


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """What the weights belong to.

    Args:
        network: A key of models.NETWORKS.
        image_size: Height and width that it was trained at, pixels.
        labels: Its classes.
        auxiliary: Whether the weights have the auxiliary head.
        precision: Keras's policy during training.
        epoch: Epochs done.
        step: Optimizer steps done.
        val_mean_iou: Validation score at that moment, 0..1, or None.
        aspp_rates: Dilation rates of ASPP that the weights were trained for, if it has one.
    """

    network: str
    image_size: tuple[int, int]
    labels: LabelMap
    auxiliary: bool
    precision: str
    epoch: int
    step: int
    val_mean_iou: float | None
    aspp_rates: tuple[int, ...] = ()


def save_checkpoint(model: tf.keras.Model, record: CheckpointRecord, path: Path) -> None:
    """Writes weights and record to `path`; at every moment a whole file is there."""
    fields = asdict(record)
    fields["labels"] = [[label.name, *label.color] for label in record.labels.labels]
    with replacing(path) as incoming:
        model.save_weights(incoming, save_format="h5")
        with h5py.File(incoming, "a") as file:
            file.attrs[_ATTRIBUTE] = json.dumps(fields)


def load_checkpoint(
    path: Path, *, image_size: tuple[int, int] | None = None, resize: ResizeMethod = "bilinear"
) -> tuple[tf.keras.Model, CheckpointRecord]:
    """Builds the network of a checkpoint, for inference, with its weights.

    Args:
        path: The file, or a run folder, which stands for its best checkpoint.
        image_size: Another height and width than it was trained at.
        resize: "matmul" for TensorRT, see `build_model`.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
        ModelError: The image size does not fit the network.
    """
    path = checkpoint_file(path)
    record = read_record(path)
    model = build_model(
        record.network,
        image_size or record.image_size,
        record.labels.num_classes,
        auxiliary=record.auxiliary,
        resize=resize,
        # Not the default of another image size: the weights were trained for these.
        aspp_rates=record.aspp_rates,
    )
    set_layers(model, read_layers(path), source=str(path))
    return inference_model(model), record


def read_record(path: Path) -> CheckpointRecord:
    """Reads the record alone; `path` as in `load_checkpoint`."""
    path = checkpoint_file(path)
    try:
        with h5py.File(path, "r") as file:
            fields = json.loads(file.attrs[_ATTRIBUTE])
        fields["labels"] = LabelMap(
            tuple(Label(name, (red, green, blue)) for name, red, green, blue in fields["labels"])
        )
        fields["image_size"] = tuple(fields["image_size"])
        fields["aspp_rates"] = tuple(fields.get("aspp_rates", ()))
        return CheckpointRecord(**fields)
    except (OSError, KeyError, ValueError, TypeError) as err:
        raise CheckpointError(
            f"'{path}' is not a checkpoint of segkit ({err})",
            expected="best.h5 or last.h5 of a run folder, written by train.py",
        ) from err


def digest(path: Path) -> str:
    """SHA-256 of a checkpoint's file."""
    return "sha256:" + hashlib.sha256(checkpoint_file(path).read_bytes()).hexdigest()


def checkpoint_file(path: Path) -> Path:
    """The file that is meant: itself, or the best checkpoint of a run folder.

    Raises:
        CheckpointError: There is no such file.
    """
    if path.is_dir():
        path = path / "checkpoints" / "best.h5"
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint '{path}'",
            expected="a run folder, or its checkpoints/best.h5 or last.h5",
            next_step="train.py prints the run folder in its first and its last line",
        )
    return path
