"""What is converted to TensorRT: a network in the form for it, rebuilt from what there is.

A published SavedModel holds the network in the form for training and CPUs, which TF-TRT would cut
to pieces (adr/0007). So its graph is left alone: segkit.json says which network it is, and its
variables are put into that network, built anew with resize="matmul".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import trackable_object_graph_pb2

from segkit import contract
from segkit.contract import Metadata
from segkit.engines.base import read_metadata
from segkit.errors import ExportError, ModelError
from segkit.export.checkpoint import describe_checkpoint
from segkit.models import build_model, get_network, inference_model
from segkit.models.checkpoints import load_checkpoint
from segkit.models.layers import ResizeMethod

__all__ = ["Source", "read_checkpoint", "read_version"]

WEIGHT_KEY = "weights/{}/.ATTRIBUTES/VARIABLE_VALUE"  # where `ServedModel.weights` is saved
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


@dataclass(frozen=True)
class Source:
    """A network to convert.

    Attributes:
        name: What it is, in words.
        model: float32 RGB 0..255 (B, H, W, 3) -> float32 logits (B, H, W, num_classes), in the form
            for TensorRT.
        reference: The same function in the form that it was trained in: what the engines are held
            to.
        metadata: What an export of it says of itself.
        digest: Of what was read.
    """

    name: str
    model: tf.keras.Model
    reference: tf.keras.Model
    metadata: Metadata
    digest: str


def read_checkpoint(path: Path, *, image_size: tuple[int, int] | None = None) -> Source:
    """Takes the network of a checkpoint.

    Args:
        path: The file, or a run folder, which stands for its best checkpoint.
        image_size: Height and width to convert at; those of the training if None.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
        ModelError: The image size does not fit the network.
    """
    model, record = load_checkpoint(path, image_size=image_size, resize="matmul")
    reference, _ = load_checkpoint(path, image_size=image_size)
    metadata = describe_checkpoint(path, record, image_size=image_size, batch_sizes=(1,))
    return Source(f"checkpoint {path}", model, reference, metadata, metadata.source)


def read_version(version_dir: Path, *, image_size: tuple[int, int] | None = None) -> Source:
    """Takes the network of a version that segkit published.

    Args:
        version_dir: The folder that holds saved_model.pb.
        image_size: Height and width to convert at; those of the version if None.

    Raises:
        ExportError: It is no such version, or does not hold what it says.
        ModelError: The image size does not fit the network.
        ContractMismatch: Its segkit.json cannot be read.
    """
    metadata = read_metadata(version_dir)
    if metadata is None:
        raise ExportError(
            f"'{version_dir}' is no version of segkit: it has no {contract.METADATA_FILE}",
            expected="a version that `python -m segkit export` published: its network is built "
            "anew in the form for TensorRT",
            next_step="publish a checkpoint, or give it itself: --checkpoint RUN_FOLDER. What "
            "TF-TRT makes of any other SavedModel, `python -m segkit tensorrt-report` says",
        )
    _check_can_be_rebuilt(version_dir, metadata)
    metadata = replace(metadata, image_size=image_size or metadata.image_size)
    model, reference = (_build(metadata, resize) for resize in ("matmul", "bilinear"))
    weights = _read_weights(version_dir, model)
    model.set_weights(weights)
    reference.set_weights(weights)
    return Source(f"version {version_dir}", model, reference, metadata, _digest(version_dir))


def _check_can_be_rebuilt(version_dir: Path, metadata: Metadata) -> None:
    if metadata.tensorrt:
        raise ExportError(
            f"'{version_dir}' holds TensorRT engines already",
            expected="the version that it was converted from",
            next_step="look for --input_saved_model_dir among the versions that `python -m segkit "
            "export` published",
        )
    try:
        network = get_network(metadata.architecture)
    except ModelError as err:
        raise ExportError(
            f"'{version_dir}' says that its network is '{metadata.architecture}', which this "
            "segkit cannot build",
            expected=err.expected,
            next_step="convert it with the segkit that exported it",
        ) from err
    if network.has_aspp and not metadata.aspp_rates:
        raise ExportError(
            f"'{version_dir}' was exported by an earlier segkit, which did not record the dilation "
            "rates of ASPP",
            expected="aspp_rates in its segkit.json: the weights were trained for them",
            next_step="export the checkpoint again, or give it itself: --checkpoint RUN_FOLDER",
        )


def _build(metadata: Metadata, resize: ResizeMethod) -> tf.keras.Model:
    model = build_model(
        metadata.architecture,
        metadata.image_size,
        metadata.labels.num_classes,
        resize=resize,
        aspp_rates=metadata.aspp_rates,
    )
    return inference_model(model)


def _read_weights(version_dir: Path, model: tf.keras.Model) -> list[npt.NDArray[Any]]:
    """The variables of a version in the order of `model.weights`, which is that of the export."""
    try:
        reader = tf.train.load_checkpoint(str(version_dir / "variables" / "variables"))
        shapes = reader.get_variable_to_shape_map()
        names = _variable_names(reader)
        keys = [WEIGHT_KEY.format(index) for index in range(len(model.weights))]
        found = [(names.get(key), tuple(shapes.get(key, ()))) for key in keys]
        wanted = [(weight.name.partition(":")[0], tuple(weight.shape)) for weight in model.weights]
        _check_weights(version_dir, found, wanted, surplus=set(names) - set(keys))
        return [np.asarray(reader.get_tensor(key)) for key in keys]
    # TensorFlow's reader turns its own errors into whichever of these fits the words.
    except (tf.errors.OpError, DecodeError, IndexError, RuntimeError, ValueError) as err:
        raise ExportError(
            f"the variables of '{version_dir}' cannot be read: {getattr(err, 'message', err)}",
            expected="a SavedModel as `python -m segkit export` wrote it, complete and undamaged",
            next_step="publish the model again, or give its checkpoint: --checkpoint RUN_FOLDER",
        ) from err


def _variable_names(reader: Any) -> dict[str, str]:
    """Key of a variable in the checkpoint -> the name that Keras gave it."""
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor(OBJECT_GRAPH)
    )
    return {
        attribute.checkpoint_key: attribute.full_name
        for node in graph.nodes
        for attribute in node.attributes
    }


def _check_weights(
    version_dir: Path,
    found: list[tuple[str | None, tuple[int, ...]]],
    wanted: list[tuple[str, tuple[int, ...]]],
    *,
    surplus: set[str],
) -> None:
    """Names as well as shapes: two layers of one shape must not change places."""
    for is_there, should_be in zip(found, wanted, strict=True):
        if is_there != should_be:
            name, shape = should_be
            raise ExportError(
                f"'{version_dir}' holds {_words(*is_there)} where its network has "
                f"{_words(name, shape)}",
                expected="the variables of the network that its segkit.json names",
                next_step="export the checkpoint again with this segkit, or give it itself: "
                "--checkpoint RUN_FOLDER",
            )
    if surplus:
        raise ExportError(
            f"'{version_dir}' holds {len(surplus)} variables more than its network has",
            expected=f"{len(wanted)} variables",
            next_step="export the checkpoint again with this segkit",
        )


def _words(name: str | None, shape: tuple[int, ...]) -> str:
    return "nothing" if name is None else f"'{name}' of shape {shape}"


def _digest(version_dir: Path) -> str:
    """SHA-256 of what a version computes: its graph and its variables."""
    digest = hashlib.sha256()
    for file in (version_dir / "saved_model.pb", *sorted((version_dir / "variables").iterdir())):
        digest.update(file.read_bytes())
    return "sha256:" + digest.hexdigest()
