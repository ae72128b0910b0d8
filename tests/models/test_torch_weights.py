from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from published_ddrnet import tensors_and_images

from segkit.errors import CheckpointError
from segkit.models import build_model, get_network
from segkit.models.torch_weights import (
    Match,
    check_usable,
    load_torch_file,
    match,
    read_head,
    set_weights,
    strip_prefixes,
)

Tensors = dict[str, np.ndarray]


@pytest.fixture
def model() -> tf.keras.Model:
    """One convolution with a bias and one normalisation, named as PyTorch would."""
    image = tf.keras.Input((4, 4, 3))
    x = tf.keras.layers.Conv2D(5, (1, 2), name="stem.0")(image)
    return tf.keras.Model(image, tf.keras.layers.BatchNormalization(name="stem.1")(x))


@pytest.fixture
def tensors() -> Tensors:
    """Those of `model`, every value different from every other."""
    shapes = {"stem.0.weight": (5, 3, 1, 2), "stem.0.bias": (5,)}
    for part in ("weight", "bias", "running_mean", "running_var"):
        shapes[f"stem.1.{part}"] = (5,)
    values = np.arange(1.0, 56.0, dtype=np.float32)
    filled = {}
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        filled[name], values = values[:count].reshape(shape), values[count:]
    assert not values.size
    return filled


# === match ===


def test_every_tensor_finds_its_place(model: tf.keras.Model, tensors: Tensors) -> None:
    found = match(model, tensors)
    assert found.complete and not found.unused
    set_weights(model, found)
    convolution, normalization = model.get_layer("stem.0"), model.get_layer("stem.1")
    for out in range(5):
        for channel in range(3):
            for column in range(2):
                assert (
                    convolution.kernel[0, column, channel, out]
                    == tensors["stem.0.weight"][out, channel, 0, column]
                )
    np.testing.assert_array_equal(convolution.bias, tensors["stem.0.bias"])
    for weight, part in (
        (normalization.gamma, "weight"),
        (normalization.beta, "bias"),
        (normalization.moving_mean, "running_mean"),
        (normalization.moving_variance, "running_var"),
    ):
        np.testing.assert_array_equal(weight, tensors[f"stem.1.{part}"])


def test_counters_and_the_loss_are_passed_over(model: tf.keras.Model, tensors: Tensors) -> None:
    extra = {
        "stem.1.num_batches_tracked": np.array(7),
        "num_batches_tracked": np.array(7),
        "loss.criterion.weight": np.ones(19),
    }
    found = match(model, tensors | extra)
    assert found.complete and not found.unused
    assert sorted(found.passed_over) == sorted(extra)


def test_a_lost_layer_is_not_taken_for_the_loss(model: tf.keras.Model, tensors: Tensors) -> None:
    found = match(model, tensors | {"lossless.weight": np.ones(3)})
    assert found.unused == {"lossless.weight": (3,)}


def test_what_has_no_counterpart_is_named_on_either_side(
    model: tf.keras.Model, tensors: Tensors
) -> None:
    del tensors["stem.1.running_var"]
    tensors["stem.0.weight"] = tensors["stem.0.weight"].swapaxes(2, 3)
    tensors["other.weight"] = np.ones((2, 2))
    found = match(model, tensors)
    assert not found.complete and not found.layers
    assert found.missing == {"stem.1.running_var": (5,)}
    assert found.wrong_shape == {"stem.0.weight": ((5, 3, 2, 1), (5, 3, 1, 2))}
    # What belongs to a layer that is not whole is of no use either, and is said to be so.
    assert set(found.unused) == {"other.weight", "stem.0.bias"} | {
        f"stem.1.{part}" for part in ("weight", "bias", "running_mean")
    }


def test_a_layer_that_is_not_whole_keeps_all_its_weights(
    model: tf.keras.Model, tensors: Tensors
) -> None:
    before = model.get_layer("stem.0").get_weights()
    del tensors["stem.0.bias"]
    set_weights(model, match(model, tensors))
    for old, new in zip(before, model.get_layer("stem.0").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(model.get_layer("stem.1").gamma, tensors["stem.1.weight"])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_floats_of_another_width_fit(
    model: tf.keras.Model, tensors: Tensors, dtype: type[np.floating[Any]]
) -> None:
    found = match(model, {name: value.astype(dtype) for name, value in tensors.items()})
    assert found.complete
    assert {w.dtype for weights in found.layers.values() for w in weights} == {np.dtype("float32")}


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_diverged_training_is_refused(
    model: tf.keras.Model, tensors: Tensors, value: float
) -> None:
    tensors["stem.1.bias"] = np.array([0, value, 0, 0, 0])
    with pytest.raises(CheckpointError, match=r"'stem.1.bias' has 1 values of 5 .* NaN"):
        match(model, tensors)


@pytest.mark.parametrize("dtype", [np.int8, np.bool_, np.complex64])
def test_values_that_are_no_reals_are_refused(
    model: tf.keras.Model, tensors: Tensors, dtype: Any
) -> None:
    tensors["stem.0.weight"] = tensors["stem.0.weight"].astype(dtype)
    with pytest.raises(CheckpointError, match="'stem.0.weight' holds .* values"):
        match(model, tensors)


# === Names, heads, and what may stay random ===


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "model.module."])
def test_prefixes_of_wrappers_are_taken_off(prefix: str) -> None:
    names = ("conv1.0.weight", "loss.weight")
    stripped = strip_prefixes({prefix + name: np.ones(1) for name in names})
    assert tuple(stripped) == names


def test_two_networks_in_one_file_are_refused() -> None:
    with pytest.raises(CheckpointError, match="'a.weight' twice, .* 'model.a.weight'"):
        strip_prefixes({"a.weight": np.ones(1), "model.a.weight": np.ones(1)})


def test_the_head_tells_classes_and_auxiliary() -> None:
    head = {"final_layer.conv2.weight": np.ones((11, 64, 1, 1))}
    assert read_head(head) == (11, False)
    assert read_head(head | {"seghead_extra.bn1.weight": np.ones(64)}) == (11, True)
    assert read_head({"linear.weight": np.ones((1000, 512))}) == (19, False)


def lacking(*names: str) -> Match:
    return Match({}, dict.fromkeys(names, (1,)), {}, {}, [])


def test_a_random_head_must_be_asked_for() -> None:
    network = get_network("ddrnet23_slim")
    found = lacking("spp.scale0.0.weight", "final_layer.conv2.bias")
    check_usable(found, network, allow_partial=True)
    with pytest.raises(CheckpointError) as caught:
        check_usable(found, network, allow_partial=False)
    assert "2 tensors of the network would stay random" in caught.value.problem
    assert "(spp 1, final_layer 1)" in caught.value.problem
    assert "--allow_partial" in caught.value.next_step


def test_a_random_piece_of_the_backbone_is_never_allowed() -> None:
    found = lacking("layer4.0.conv1.weight", "spp.scale0.0.weight")
    for allow_partial in (False, True):
        with pytest.raises(CheckpointError, match="'layer4.0.conv1.weight' would be") as caught:
            check_usable(found, get_network("ddrnet23_slim"), allow_partial=allow_partial)
        assert "--allow_partial" not in str(caught.value)


def test_another_network_of_the_family_is_refused() -> None:
    """DDRNet-23 has the same names and twice the channels."""
    wide = {
        name: np.zeros((2 * value.shape[0], *value.shape[1:]), np.float32)
        for name, value in tensors_and_images()[0].items()
    }
    network = build_model("ddrnet23_slim", (64, 64), 19)
    found = match(network, wide)
    assert found.wrong_shape["conv1.0.bias"] == ((64,), (32,)) and not found.layers
    with pytest.raises(CheckpointError, match="not DDRNet-23 or -39"):
        check_usable(found, get_network("ddrnet23_slim"), allow_partial=True)


# === Files that torch is not needed for ===


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>", "no file of torch.save.*\n.*\n.*a web page"),
        (b"\x89HDF\r\n", "no file of torch.save"),
    ],
)
def test_what_torch_never_wrote_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        load_torch_file(path)


def test_a_folder_and_nothing_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        load_torch_file(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_torch_file(tmp_path / "x.pth")


def test_without_torch_it_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CheckpointError, match=r"pip install .*\[torch\]"):
        load_torch_file(path)


# === Files of torch.save ===


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="needs the extra segkit[torch]")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"epoch": 3, "state_dict": weights, "optimizer": {"state": {0: weights}}},
        lambda weights: {"model_state_dict": weights},
        lambda weights: {"model": weights},
        lambda weights: {"model": {"state_dict": weights}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_found_in_what_training_scripts_save(
    torch: Any, tmp_path: Path, wrap: Any, zipped: bool
) -> None:
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.num_batches_tracked": torch.ones(())}
    path = tmp_path / "x.pth.tar"
    torch.save(wrap(weights), path, _use_new_zipfile_serialization=zipped)
    tensors = load_torch_file(path)
    np.testing.assert_array_equal(tensors["a.weight"], [[0, 1, 2], [3, 4, 5]])
    assert set(tensors) == set(weights)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float64"])
def test_other_precisions_come_as_float32(torch: Any, tmp_path: Path, name: str) -> None:
    torch.save({"a": torch.full((2,), 0.5, dtype=getattr(torch, name))}, tmp_path / "x.pth")
    value = load_torch_file(tmp_path / "x.pth")["a"]
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, [0.5, 0.5])


def test_parameters_that_a_training_left_attached_are_read(torch: Any, tmp_path: Path) -> None:
    torch.save({"a": torch.nn.Parameter(torch.ones(2))}, tmp_path / "x.pth")
    np.testing.assert_array_equal(load_torch_file(tmp_path / "x.pth")["a"], [1, 1])


def test_sparse_tensors_are_refused_by_name(torch: Any, tmp_path: Path) -> None:
    torch.save({"a": torch.eye(2).to_sparse()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="'a' of .* no plain array"):
        load_torch_file(tmp_path / "x.pth")


class Trap:
    """What a hostile file does when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(torch: Any, tmp_path: Path, zipped: bool) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "x.pth"
    content = {"state_dict": {"a": torch.ones(1)}, "trap": Trap(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="Python objects besides tensors: .*mkdir") as caught:
        load_torch_file(path)
    assert "weights alone" in caught.value.next_step
    assert not trace.exists()


def test_a_whole_pickled_module_is_refused(torch: Any, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"besides tensors: torch.nn.modules.linear.Linear"):
        load_torch_file(tmp_path / "x.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(
    torch: Any, tmp_path: Path, share: float, zipped: bool
) -> None:
    path = tmp_path / "x.pth"
    weights = {f"layer{index}": torch.ones(100) for index in range(10)}
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="is damaged, or no file of torch.save"):
        load_torch_file(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")
def test_a_plain_pickle_and_torchscript_are_refused(torch: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({"a": 1}, protocol=2))
    with pytest.raises(CheckpointError, match="no file of torch.save"):
        load_torch_file(path)
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    with pytest.raises(CheckpointError, match="no file of torch.save .*TorchScript"):
        load_torch_file(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 3, "state_dict": {}}, "no weights by name, but an empty mapping"),
        ({"epoch": 3, "best": 0.7}, "keys 'epoch', 'best'"),
        ([1, 2], "but a list"),
    ],
)
def test_a_file_without_weights_says_what_it_has(
    torch: Any, tmp_path: Path, content: Any, words: str
) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=words):
        load_torch_file(tmp_path / "x.pth")
