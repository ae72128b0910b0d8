"""Starting from weights: Keras's files are made here, with Keras's own code, at random."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from keras.src.utils import data_utils

from segkit.errors import CheckpointError
from segkit.models import NETWORKS, build_model
from segkit.models.backbones import EFFICIENTNETV2S, MOBILENETV3LARGE
from segkit.models.pretrained import read_layers, save_layers

NETWORK = "mobilenetv3_deeplabv3plus"
BACKBONES = {NETWORK: MOBILENETV3LARGE, "efficientnetv2s_deeplabv3plus_light": EFFICIENTNETV2S}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the file that tf.keras.applications publishes for the backbone of a network."""
    folder = tmp_path_factory.mktemp("published")

    def make(name: str) -> Path:
        path = folder / f"{name}.h5"
        if not path.exists():
            tf.keras.utils.set_random_seed(9)
            BACKBONES[name].as_published(None).save_weights(path)
        return path

    return make


def backbone_weights(model: tf.keras.Model, network: str) -> dict[str, Any]:
    head = NETWORKS[network].head
    layers = [layer for layer in model.layers if layer.weights]
    return {x.name: x.get_weights() for x in layers if x.name.partition(".")[0] not in head}


def assert_backbone_is(model: tf.keras.Model, network: str, path: Path) -> None:
    theirs = read_layers(path)
    mine = backbone_weights(model, network)
    assert len(mine) > 80
    for name, weights in mine.items():
        for weight, array in zip(weights, theirs[name], strict=True):
            np.testing.assert_array_equal(weight, array, err_msg=name)


@pytest.mark.parametrize("network", BACKBONES)
def test_a_file_of_keras_fills_the_backbone(
    network: str, published: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "segkit")
    path = published(network)
    model = build_model(network, (64, 96), 5, weights=path)
    assert_backbone_is(model, network, path)
    assert "from random weights: aspp, decoder" in caplog.text


def test_a_file_of_keras_with_other_names_fills_it_by_the_order_of_layers(
    published: Callable[[str], Path], tmp_path: Path
) -> None:
    path, renamed = published(NETWORK), tmp_path / "renamed.h5"
    import h5py

    with h5py.File(path) as source, h5py.File(renamed, "w") as target:
        names = [str(name) for name in source.attrs["layer_names"]]
        for name in names:
            weights = source[name].attrs["weight_names"]
            group = target.create_group(f"old_{name}".replace("/", "_"))
            group.attrs["weight_names"] = [b"w%d" % index for index in range(len(weights))]
            for index, weight in enumerate(weights):
                group[f"w{index}"] = source[name][weight][()]
        target.attrs["layer_names"] = [f"old_{name}".replace("/", "_").encode() for name in names]
        target.attrs["backend"] = b"tensorflow"
        target.attrs["keras_version"] = b"2.4.0"
    assert_backbone_is(build_model(NETWORK, (64, 64), 5, weights=renamed), NETWORK, path)


def test_imagenet_asks_keras_for_its_file(
    published: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def get_file(name: str, origin: str, **kwargs: Any) -> str:
        asked.append(origin)
        return str(published(NETWORK))

    monkeypatch.setattr(data_utils, "get_file", get_file)
    model = build_model(NETWORK, (64, 64), 5, weights="imagenet")
    assert_backbone_is(model, NETWORK, published(NETWORK))
    (origin,) = asked
    assert origin.endswith("weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5")


def test_imagenet_out_of_reach_is_an_error_that_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def get_file(name: str, origin: str, **kwargs: Any) -> str:
        raise Exception(f"URL fetch failure on {origin}: None -- no route to host")  # as Keras

    monkeypatch.setattr(data_utils, "get_file", get_file)
    with pytest.raises(CheckpointError, match="cannot be fetched: URL fetch failure") as caught:
        build_model(NETWORK, (64, 64), 5, weights="imagenet")
    assert "--weights FILE.h5" in caught.value.next_step
    assert "--weights none" in caught.value.next_step


def test_imagenet_for_a_network_that_keras_does_not_have_names_the_import() -> None:
    with pytest.raises(CheckpointError, match="no ImageNet weights of this network") as caught:
        build_model("ddrnet23_slim", (64, 64), 5, weights="imagenet")
    assert "import-torch" in caught.value.next_step


def test_a_head_of_another_number_of_classes_starts_at_random(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "segkit")
    nineteen = build_model("ddrnet23_slim", (64, 64), 19, auxiliary=True)
    nineteen.save_weights(tmp_path / "w.h5")
    model = build_model("ddrnet23_slim", (64, 96), 5, weights=tmp_path / "w.h5")
    for name in ("layer5.0.conv3", "spp.process4.2", "final_layer.conv1"):
        np.testing.assert_array_equal(model.get_layer(name).kernel, nineteen.get_layer(name).kernel)
    assert model.get_layer("final_layer.conv2").kernel.shape[-1] == 5
    assert "109 of 110 layers" in caplog.text
    assert "from random weights: final_layer.conv2" in caplog.text


def test_part_of_a_backbone_is_refused(tmp_path: Path) -> None:
    model = build_model("ddrnet23_slim", (64, 64), 5)
    layers = backbone_weights(model, "ddrnet23_slim")
    del layers["layer3.0.conv2"]
    save_layers(layers, tmp_path / "w.h5")
    with pytest.raises(CheckpointError, match=r"another shape: layer3\.0\.conv2"):
        build_model("ddrnet23_slim", (64, 64), 5, weights=tmp_path / "w.h5")


@pytest.mark.parametrize("network", ["ddrnet23_slim", "efficientnetv2s_deeplabv3plus_light"])
def test_weights_of_another_network_are_refused(
    network: str, published: Callable[[str], Path]
) -> None:
    with pytest.raises(CheckpointError, match="holds 0 of the backbone's"):
        build_model(network, (64, 64), 5, weights=published(NETWORK))


def test_what_is_written_comes_back_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    layers = {"a.b": [np.ones((2, 3), np.float32)], "c/d": [np.zeros(2), np.ones(3)]}
    save_layers(layers, tmp_path / "w.h5")
    again = read_layers(tmp_path / "w.h5")
    assert {name: [x.tolist() for x in arrays] for name, arrays in again.items()} == {
        name: [x.tolist() for x in arrays] for name, arrays in layers.items()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["w.h5"]


@pytest.mark.parametrize("content", [None, b"", b"no HDF5"])
def test_what_is_no_weights_file_says_what_would_be(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w\.h5") as caught:
        build_model("ddrnet23_slim", (64, 64), 5, weights=path)
    assert "import-torch" in caught.value.expected
