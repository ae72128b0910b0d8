"""The authors' PyTorch weights: read from their files, matched to a network by name and shape.

Every layer with weights has the name of its module in the authors' network, so a tensor's name is
the layer's and a suffix. Only `load_torch_file` needs torch.
"""

from __future__ import annotations

import logging
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from segkit.errors import CheckpointError
from segkit.models.network import Network
from segkit.models.pretrained import is_head

__all__ = [
    "INSTALL_TORCH",
    "TORCH_NETWORKS",
    "Match",
    "check_usable",
    "load_torch_file",
    "match",
    "read_head",
    "set_weights",
    "strip_prefixes",
]

# The networks whose authors publish PyTorch weights that mean the same in TensorFlow.
TORCH_NETWORKS = ("ddrnet23_slim",)

INSTALL_TORCH = 'pip install -c constraints.txt -e ".[torch]"'

# Where training scripts keep the weights in a file with other things, in the order looked for.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
PUBLISHED_CLASSES = 19  # of Cityscapes; stands in where a file has no head
# nn.DataParallel, HRNet's FullModel (network and loss in one module), torch.compile.
PREFIXES = ("module.", "model.", "_orig_mod.")
# Counters that no inference needs, and the weights of a loss that was saved with the network.
PASSED_OVER = re.compile(r"(loss|criterion)\..*|(.*\.)?num_batches_tracked")
CONVOLUTION = ("weight", "bias")  # the bias is not everywhere
BATCH_NORMALIZATION = ("weight", "bias", "running_mean", "running_var")

Tensors = Mapping[str, npt.NDArray[Any]]
Shape = tuple[int, ...]

logger = logging.getLogger(__name__)


class Match(NamedTuple):
    """What a file's tensors are to a network.

    Attributes:
        layers: Layer name -> its weights, float32, in Keras's order and layout; the layers of
            which the file has every tensor.
        missing: Tensors of the network that the file lacks, by PyTorch's name, with shapes there.
        unused: Tensors of the file that fit nowhere, or whose layer lacks another one.
        wrong_shape: Tensors of the same name: shape in the file, shape in the network.
        passed_over: Tensors of the file that no network needs.
    """

    layers: dict[str, list[npt.NDArray[np.float32]]]
    missing: dict[str, Shape]
    unused: dict[str, Shape]
    wrong_shape: dict[str, tuple[Shape, Shape]]
    passed_over: list[str]

    @property
    def complete(self) -> bool:
        """Whether every layer of the network has its weights."""
        return not self.missing and not self.wrong_shape


def match(model: tf.keras.Model, tensors: Tensors) -> Match:
    """Finds the tensors of each layer and turns them to Keras's layout (HWIO kernels).

    Args:
        model: A network whose layers have the names of the authors' modules.
        tensors: Name -> array, without prefixes (`strip_prefixes`).

    Raises:
        CheckpointError: A tensor that fits holds something else than finite real numbers.
    """
    left = {name: value for name, value in tensors.items() if not PASSED_OVER.fullmatch(name)}
    passed_over = [name for name in tensors if name not in left]
    layers: dict[str, list[npt.NDArray[np.float32]]] = {}
    missing: dict[str, Shape] = {}
    wrong_shape: dict[str, tuple[Shape, Shape]] = {}
    for layer in model.layers:
        expected = dict(_torch_shapes(layer))
        absent = {name: shape for name, shape in expected.items() if name not in left}
        unlike = {
            name: (left[name].shape, shape)
            for name, shape in expected.items()
            if name in left and left[name].shape != shape
        }
        missing |= absent
        wrong_shape |= unlike
        if expected and not absent and not unlike:
            layers[layer.name] = [_to_keras(name, left.pop(name)) for name in expected]
    unused = {name: value.shape for name, value in left.items() if name not in wrong_shape}
    return Match(layers, missing, unused, wrong_shape, passed_over)


def read_head(tensors: Tensors) -> tuple[int, bool]:
    """The number of classes of a file, and whether it has the auxiliary head.

    Without a main head, as in ImageNet's files, the number is PUBLISHED_CLASSES.
    """
    kernel = tensors.get("final_layer.conv2.weight")
    num_classes = PUBLISHED_CLASSES if kernel is None or not kernel.ndim else kernel.shape[0]
    return num_classes, any(name.startswith("seghead_extra.") for name in tensors)


def check_usable(found: Match, network: Network, *, allow_partial: bool) -> None:
    """Lets a match pass that leaves nothing random but what its user knows of.

    A part of the backbone must never be random: the layers behind it were trained on what it
    computes, so they are worth nothing without it, and no published file lacks one.

    Args:
        found: What the file has.
        network: Tells the head from the backbone.
        allow_partial: Whether layers of the head may be left without weights.

    Raises:
        CheckpointError: The network would be left half random.
    """
    if found.complete:
        return
    lacking = [*found.missing, *found.wrong_shape]
    backbone = [name for name in lacking if not is_head(name, network)]
    if allow_partial and not backbone:
        return
    parts = Counter(name.partition(".")[0] for name in lacking)
    raise CheckpointError(
        f"{len(lacking)} tensors of the network would stay random: {len(found.missing)} are not in "
        f"the file, {len(found.wrong_shape)} have another shape there "
        f"({', '.join(f'{part} {count}' for part, count in parts.items())})",
        expected="the weights of this very network (DDRNet-23-slim, not DDRNet-23 or -39)"
        if backbone
        else "a file with the whole network, such as the authors' for Cityscapes",
        next_step=f"no part of the backbone may be random, and '{backbone[0]}' would be; --verbose "
        "lists every tensor"
        if backbone
        else "--allow_partial writes the layers that fit, for `train.py --weights`; training then "
        "starts the others from random weights",
    )


def set_weights(model: tf.keras.Model, found: Match) -> None:
    """Gives the layers of a match their weights; the others keep theirs."""
    for name, weights in found.layers.items():
        model.get_layer(name).set_weights(weights)


def strip_prefixes(tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
    """Takes off what wrappers of a network put before its names, in any order.

    Raises:
        CheckpointError: Two tensors have one name then.
    """
    stripped: dict[str, npt.NDArray[Any]] = {}
    for whole, value in tensors.items():
        name = whole
        while name.startswith(PREFIXES):
            name = name.split(".", 1)[1]
        if name in stripped:
            raise CheckpointError(
                f"the file has the tensor '{name}' twice, the second time as '{whole}'",
                expected=f"one network, whose names may begin with {', '.join(PREFIXES)}",
                next_step="save the state_dict() of the network that you want alone",
            )
        stripped[name] = value
    return stripped


def load_torch_file(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Reads the tensors of a file that torch.save wrote; no code in it is run.

    Args:
        path: A state_dict, or a training checkpoint that holds one under a usual name.

    Returns:
        Name as in the file -> array. Floats of any width come as float32.

    Raises:
        CheckpointError: There is no such file, torch is not installed, the file is damaged or no
            file of torch.save, or it holds other objects than tensors and plain Python values.
    """
    _check_file(path)
    try:
        import torch
    except (ImportError, OSError) as err:  # OSError: torch is there, a library of its is not
        raise CheckpointError(
            f"reading '{path}' needs PyTorch, which cannot be imported ({err})",
            next_step=INSTALL_TORCH,
        ) from err
    try:
        # What torch warns of (TorchScript, an unusual pickle) ends in an error with a reason.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # an unpickler that is fed other bytes may raise anything
        raise _explain(path, err) from err
    tensors = {
        name: value
        for name, value in _find_state_dict(path, content, torch.Tensor).items()
        if isinstance(value, torch.Tensor)
    }
    return {str(name): _to_numpy(path, name, tensor) for name, tensor in tensors.items()}


# === From layers to PyTorch's names ===


def _torch_shapes(layer: tf.keras.layers.Layer) -> Iterator[tuple[str, Shape]]:
    """PyTorch's names and shapes of a layer's weights, in Keras's order."""
    shapes = [tuple(weight.shape) for weight in layer.weights]
    normalizes = isinstance(layer, tf.keras.layers.BatchNormalization)
    parts = BATCH_NORMALIZATION if normalizes else CONVOLUTION
    for part, shape in zip(parts, shapes, strict=False):
        if len(shape) == 4:
            height, width, inputs, outputs = shape
            shape = (outputs, inputs, height, width)
        yield f"{layer.name}.{part}", shape


def _to_keras(name: str, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if value.dtype.kind != "f":
        raise CheckpointError(
            f"the tensor '{name}' holds {value.dtype} values",
            expected="weights of a network in floating point, not a quantised one",
        )
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        value = value.astype(np.float32)
    broken = int(np.count_nonzero(~np.isfinite(value)))
    if broken:
        raise CheckpointError(
            f"the tensor '{name}' has {broken:,} values of {value.size:,} that are NaN or infinite",
            expected="weights of a training that did not diverge",
            next_step="take an earlier checkpoint of that training",
        )
    # OIHW -> HWIO. No network of the authors has a depthwise convolution.
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value


# === Files of torch.save ===


def _check_file(path: Path) -> None:
    expected = "a .pth, .pt or .pth.tar file that torch.save wrote"
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"'{path}' {problem}", expected=expected)
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as err:
        raise CheckpointError(f"'{path}' cannot be read: {err.strerror}") from err
    if not start:
        raise CheckpointError(f"'{path}' is empty", expected=expected)
    # A zip archive, or a pickle as torch wrote them before 1.6.
    if not start.startswith((b"PK", b"\x80")):
        raise CheckpointError(
            f"'{path}' is no file of torch.save: it starts with {start!r}",
            expected=expected,
            next_step="if it was downloaded, see whether it is a web page about the file",
        )


def _explain(path: Path, err: Exception) -> CheckpointError:
    text = str(err)
    foreign = re.search(r"GLOBAL (\S+)", text)
    if isinstance(err, pickle.UnpicklingError) and foreign:
        return CheckpointError(
            f"'{path}' holds Python objects besides tensors: {foreign[1]}. "
            "To load such a file may run any code in it",
            expected="a file of tensors, numbers, strings, lists and dicts",
            next_step="if you trust it, save its weights alone first (docs/import-torch.md)",
        )
    # torch's further lines advise to load the file without the protection.
    reason = "" if isinstance(err, pickle.UnpicklingError) else text.split(". ")[0].strip()
    return CheckpointError(
        f"'{path}' is damaged, or no file of torch.save" + (f" ({reason})" if reason else ""),
        expected="a state_dict, or a training checkpoint with one",
        next_step="fetch the file again and compare its size with the original's",
    )


def _find_state_dict(path: Path, content: Any, tensor: type) -> Mapping[Any, Any]:
    """The mapping whose values are tensors, which may stand inside others."""
    if isinstance(content, Mapping):
        for key in WRAPPERS:
            if isinstance(content.get(key), Mapping):
                logger.info("the weights stand under '%s' in '%s'", key, path)
                return _find_state_dict(path, content[key], tensor)
        if any(isinstance(value, tensor) for value in content.values()):
            return content
    if not isinstance(content, Mapping):
        found = f"a {type(content).__name__}"
    else:
        keys = ", ".join(repr(key) for key in list(content)[:10])
        found = f"the keys {keys}" if keys else "an empty mapping"
    raise CheckpointError(
        f"'{path}' holds no weights by name, but {found}",
        expected=f"a state_dict, or one under {', '.join(map(repr, WRAPPERS))}",
    )


def _to_numpy(path: Path, name: Any, tensor: Any) -> npt.NDArray[Any]:
    try:
        tensor = tensor.detach()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    except (RuntimeError, TypeError) as err:
        raise CheckpointError(
            f"the tensor '{name}' of '{path}' is no plain array: {str(err).splitlines()[0]}",
            expected="dense tensors, neither sparse nor quantised",
        ) from err
