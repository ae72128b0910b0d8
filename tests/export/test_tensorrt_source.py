from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tiny_checkpoints import NAME, add_tiny_network, save_tiny_checkpoint

from segkit import contract, models
from segkit.contract import Metadata
from segkit.errors import ContractMismatch, ExportError, ModelError
from segkit.export import publish
from segkit.export.tensorrt_source import read_checkpoint, read_version
from segkit.labels import LabelMap
from segkit.models import build_model
from segkit.models.checkpoints import digest, load_checkpoint
from segkit.models.layers import Resize

IMAGE_SIZE = (64, 96)


@pytest.fixture(scope="module", autouse=True)
def tiny_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_network(patch)
        yield


@pytest.fixture(scope="module")
def checkpoint(labels: LabelMap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("run") / "best.h5", labels, IMAGE_SIZE)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, labels: LabelMap, tmp_path_factory: Any) -> Path:
    model, _ = load_checkpoint(checkpoint)
    metadata = Metadata(
        labels=labels,
        image_size=IMAGE_SIZE,
        architecture=NAME,
        normalization="RGB / 64 - 2",
        val_mean_iou=0.5,
        source=digest(checkpoint),
    )
    return publish(model, metadata, tmp_path_factory.mktemp("exports"))


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """The exported version, to be altered."""
    return Path(shutil.copytree(exported, tmp_path / "1"))


@pytest.fixture(scope="module")
def image() -> Any:
    return np.random.default_rng(2).uniform(0, 255, (2, *IMAGE_SIZE, 3)).astype(np.float32)


def alter(version: Path, **changes: Any) -> None:
    """Changes fields of segkit.json."""
    path = version / contract.METADATA_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_version_gives_its_network_in_both_forms(
    exported: Path, checkpoint: Path, image: Any
) -> None:
    source = read_version(exported)
    expected = load_checkpoint(checkpoint)[0](image)
    np.testing.assert_allclose(source.reference(image), expected, atol=1e-6)
    np.testing.assert_allclose(source.model(image), expected, atol=1e-4)
    assert _resizes(source.model) == {"matmul"}
    assert _resizes(source.reference) == {"bilinear"}


def test_a_checkpoint_gives_the_same(exported: Path, checkpoint: Path, image: Any) -> None:
    source, other = read_checkpoint(checkpoint), read_version(exported)
    np.testing.assert_array_equal(source.model(image), other.model(image))
    np.testing.assert_array_equal(source.reference(image), other.reference(image))
    assert source.metadata.source == other.metadata.source == source.digest
    assert _resizes(source.model) == {"matmul"}


def test_it_says_what_it_is(exported: Path, checkpoint: Path) -> None:
    source = read_version(exported)
    assert source.name == f"version {exported}"
    assert source.metadata.val_mean_iou == 0.5
    assert source.digest.startswith("sha256:") and source.digest != source.metadata.source
    assert read_checkpoint(checkpoint).name == f"checkpoint {checkpoint}"


def test_the_digest_is_that_of_graph_and_variables(exported: Path, copy: Path) -> None:
    assert read_version(copy).digest == read_version(exported).digest
    with (copy / "saved_model.pb").open("ab") as file:
        file.write(b"x")
    assert read_version(copy).digest != read_version(exported).digest


def test_another_image_size_can_be_asked_for(exported: Path, checkpoint: Path) -> None:
    for source in (
        read_version(exported, image_size=(32, 64)),
        read_checkpoint(checkpoint, image_size=(32, 64)),
    ):
        assert source.model.input_shape == source.reference.input_shape == (None, 32, 64, 3)
        assert source.metadata.image_size == (32, 64)


def test_an_image_size_that_does_not_fit_is_refused(exported: Path) -> None:
    with pytest.raises(ModelError, match="too small"):
        read_version(exported, image_size=(16, 16))


def _resizes(model: tf.keras.Model) -> set[str]:
    return {layer.method for layer in model.layers if isinstance(layer, Resize)}


# === What is refused ===


def test_a_saved_model_that_is_not_of_segkit(copy: Path) -> None:
    (copy / contract.METADATA_FILE).unlink()
    with pytest.raises(ExportError, match="is no version of segkit") as caught:
        read_version(copy)
    assert "segkit export" in caught.value.expected
    assert "--checkpoint" in caught.value.next_step
    assert "tensorrt-report" in caught.value.next_step


def test_a_record_that_cannot_be_read(copy: Path) -> None:
    (copy / contract.METADATA_FILE).write_text("{}")
    with pytest.raises(ContractMismatch, match="does not describe itself"):
        read_version(copy)


def test_a_version_of_engines(copy: Path) -> None:
    alter(copy, tensorrt={"tensorrt": "8.6.1"})
    with pytest.raises(ExportError, match="holds TensorRT engines already") as caught:
        read_version(copy)
    assert "--input_saved_model_dir" in caught.value.next_step


def test_a_network_that_is_not_known(copy: Path) -> None:
    alter(copy, architecture="unet")
    with pytest.raises(ExportError, match="'unet', which this segkit cannot build") as caught:
        read_version(copy)
    assert "ddrnet23_slim" in caught.value.expected
    assert "the segkit that exported it" in caught.value.next_step


def test_dilation_rates_that_were_not_recorded(copy: Path) -> None:
    alter(copy, architecture="mobilenetv3_deeplabv3plus")
    with pytest.raises(ExportError, match="the dilation rates of ASPP") as caught:
        read_version(copy)
    assert "aspp_rates" in caught.value.expected
    assert "--checkpoint" in caught.value.next_step


def test_another_number_of_classes(copy: Path) -> None:
    record = json.loads((copy / contract.METADATA_FILE).read_text())
    alter(copy, labels=[*record["labels"], {"id": 3, "name": "tree", "color": [0, 9, 0]}])
    with pytest.raises(ExportError, match=r"'head/kernel' of shape \(3, 3, 8, 3\) where") as caught:
        read_version(copy)
    assert "(3, 3, 8, 4)" in str(caught.value)
    assert "--checkpoint" in caught.value.next_step


def test_weights_that_changed_places(
    copy: Path, image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shapes alone would let two layers of one shape change places."""

    def swapped(image: tf.Tensor, num_classes: int, options: Any) -> tuple[Any, Any]:
        x = tf.keras.layers.Conv2D(8, 5, strides=2, padding="same", name="b")(image)
        return tf.keras.layers.Conv2D(num_classes, 3, padding="same", name="head")(x), None

    monkeypatch.setitem(models.NETWORKS, NAME, models.NETWORKS[NAME]._replace(function=swapped))
    with pytest.raises(ExportError, match="holds 'a/kernel' .* where its network has 'b/kernel'"):
        read_version(copy)


def test_variables_that_the_network_does_not_have(
    labels: LabelMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def longer(image: tf.Tensor, num_classes: int, options: Any) -> tuple[Any, Any]:
        x = tf.keras.layers.Conv2D(8, 5, strides=2, padding="same", name="a")(image)
        x = tf.keras.layers.Conv2D(num_classes, 3, padding="same", name="head")(x)
        return tf.keras.layers.Conv2D(num_classes, 1, name="more")(x), None

    with monkeypatch.context() as patch:
        patch.setitem(models.NETWORKS, NAME, models.NETWORKS[NAME]._replace(function=longer))
        model = build_model(NAME, IMAGE_SIZE, 3)
    metadata = Metadata(
        labels=labels, image_size=IMAGE_SIZE, architecture=NAME, normalization="RGB / 64 - 2"
    )
    version = publish(model, metadata, tmp_path / "longer")
    with pytest.raises(ExportError, match="holds 2 variables more than its network") as caught:
        read_version(version)
    assert "4 variables" in caught.value.expected


@pytest.mark.parametrize("damage", ["absent", "index", "data"])
def test_variables_that_are_damaged(copy: Path, damage: str) -> None:
    (data,) = (copy / "variables").glob("variables.data-*")
    if damage == "absent":
        shutil.rmtree(copy / "variables")
    elif damage == "index":
        (copy / "variables" / "variables.index").write_bytes(b"x" * 200)
    else:
        data.write_bytes(data.read_bytes()[:-500])
    with pytest.raises(ExportError, match="the variables of .* cannot be read") as caught:
        read_version(copy)
    assert "undamaged" in caught.value.expected
