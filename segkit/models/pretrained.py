"""Starting from weights that are not this run's own: ImageNet's, or those in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from segkit.errors import CheckpointError
from segkit.models.network import Network
from segkit.runs import replacing

__all__ = ["is_head", "load_pretrained", "read_layers", "save_layers", "set_layers"]

Arrays = Sequence[npt.NDArray[Any]]

IMAGENET = "imagenet"


def load_pretrained(model: tf.keras.Model, network: Network, weights: str | Path) -> str:
    """Sets the weights of the whole backbone, and of what else fits.

    A layer of the head takes the file's weights if it has them in the right shape (another number
    of classes is another shape), and keeps its random ones otherwise. Part of a backbone is never
    taken: a half random backbone trains worse than a random one, and nobody would notice.

    Args:
        model: What `build_model` built.
        network: Its line of NETWORKS.
        weights: "imagenet", which downloads Keras's weights unless they are in its cache; or a
            file: a checkpoint of segkit, what `python -m segkit import-torch` wrote, or a weights
            file of tf.keras.applications.

    Returns:
        A sentence on what was loaded and what starts from random weights.

    Raises:
        CheckpointError: They cannot be fetched or read, or do not hold the backbone.
    """
    own = [layer for layer in model.layers if layer.weights]
    backbone = [layer for layer in own if not is_head(layer.name, network)]
    if weights == IMAGENET:
        layers = _imagenet_layers(network)
    else:
        layers = _file_layers(Path(weights), network, backbone)
    _check_backbone(backbone, layers, source=str(weights))
    fitting = [layer for layer in own if _fits(layer, layers)]
    for layer in fitting:
        layer.set_weights(layers[layer.name])
    random = [layer.name for layer in own if layer not in fitting]
    sentence = f"{len(fitting)} of {len(own)} layers with weights from {weights}"
    if random:
        whole = {_part(layer.name) for layer in own} - {_part(layer.name) for layer in fitting}
        names = {_part(name) if _part(name) in whole else name for name in random}
        sentence += f"; from random weights: {', '.join(sorted(names))}"
    return sentence


def set_layers(model: tf.keras.Model, layers: Mapping[str, Arrays], *, source: str) -> None:
    """Sets all weights of a model, by layer name.

    Raises:
        CheckpointError: A layer is missing on either side, or has another shape.
    """
    own = [layer for layer in model.layers if layer.weights]
    wrong = [layer.name for layer in own if not _fits(layer, layers)]
    wrong += sorted(set(layers) - {layer.name for layer in own})
    if wrong:
        raise CheckpointError(
            f"the weights in '{source}' do not fit {model.name}: {_some(wrong)} missing on one "
            "side, or of another shape",
            expected="a checkpoint of this version of segkit",
            next_step="train again, or use the segkit that wrote it",
        )
    for layer in own:
        layer.set_weights(layers[layer.name])


def is_head(layer_name: str, network: Network) -> bool:
    """Whether a layer with weights belongs to the head, not to the backbone."""
    return _part(layer_name) in network.head


def read_layers(path: Path) -> dict[str, list[npt.NDArray[Any]]]:
    """Reads a weights file of Keras: layer name -> its arrays in the order of `layer.weights`.

    Raises:
        CheckpointError: It is no such file, or is damaged.
    """
    layers: dict[str, list[npt.NDArray[Any]]] = {}

    def visit(name: str, group: Any) -> None:
        names = group.attrs.get("weight_names", ())
        if len(names):
            layers[name] = [np.asarray(group[weight]) for weight in names]

    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)  # a whole model holds its weights one level down
            root.visititems(visit)
    except (OSError, KeyError, ValueError) as err:
        raise CheckpointError(
            f"the weights '{path}' cannot be read: {err}",
            expected="a weights file of Keras (.h5): a checkpoint of segkit, what import-torch "
            "wrote, or a file of tf.keras.applications",
        ) from err
    return layers


def save_layers(layers: Mapping[str, Arrays], path: Path) -> None:
    """Writes the weights of some layers as Keras would; at every moment a whole file is there.

    Args:
        layers: Layer name -> its arrays in the order of `layer.weights`.
        path: The file, .h5.
    """
    with replacing(path) as incoming, h5py.File(incoming, "w") as file:
        for name, arrays in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [str(index) for index in range(len(arrays))]
            for index, array in enumerate(arrays):
                group.create_dataset(str(index), data=array)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _part(layer_name: str) -> str:
    return layer_name.partition(".")[0]


def _fits(layer: tf.keras.layers.Layer, layers: Mapping[str, Arrays]) -> bool:
    shapes = [tuple(weight.shape) for weight in layer.weights]
    return shapes == [array.shape for array in layers.get(layer.name, ())]


def _imagenet_layers(network: Network) -> dict[str, Arrays]:
    if network.backbone is None:
        raise CheckpointError(
            "there are no ImageNet weights of this network in Keras",
            expected="weights 'none', or a file",
            next_step="convert the authors' ImageNet checkpoint by `python -m segkit import-torch "
            "CHECKPOINT.pth --model ddrnet23_slim --output W.h5 --allow_partial`, "
            "then give it: --weights W.h5",
        )
    try:
        return _by_name(network.backbone.as_published(IMAGENET))
    except Exception as err:  # Keras raises a bare Exception where a download fails
        raise CheckpointError(
            f"the ImageNet weights of {network.backbone.application} cannot be fetched: {err}",
            expected="a connection to the address above, or the file in Keras's cache, "
            "~/.keras/models",
            next_step="fetch that file on a connected machine and give it as --weights FILE.h5, "
            "or begin with random weights by --weights none",
        ) from err


def _file_layers(
    path: Path, network: Network, backbone: Sequence[tf.keras.layers.Layer]
) -> dict[str, Arrays]:
    if not path.is_file():
        raise CheckpointError(
            f"there are no weights '{path}'",
            expected="none, imagenet, or a file: a checkpoint of segkit, what import-torch wrote, "
            "or a weights file of tf.keras.applications",
        )
    layers: dict[str, Arrays] = dict(read_layers(path))
    if network.backbone is None or all(layer.name in layers for layer in backbone):
        return layers
    try:
        # Keras reads its published files by the order of layers, whatever their names in there.
        return _by_name(network.backbone.as_published(str(path)))
    except ValueError:
        return layers  # not one of those either: what is missing will be said by name


def _by_name(model: tf.keras.Model) -> dict[str, Arrays]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def _check_backbone(
    backbone: Sequence[tf.keras.layers.Layer], layers: Mapping[str, Arrays], *, source: str
) -> None:
    unfit = [layer.name for layer in backbone if not _fits(layer, layers)]
    if unfit:
        raise CheckpointError(
            f"{source} holds {len(backbone) - len(unfit)} of the backbone's {len(backbone)} layers "
            f"with weights; missing or of another shape: {_some(unfit)}",
            expected="the weights of this network's whole backbone",
            next_step="check that they were made for this network",
        )
