from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from segkit.errors import CheckpointError
from segkit.labels import LabelMap
from segkit.models import build_model
from segkit.models.checkpoints import (
    CheckpointRecord,
    digest,
    load_checkpoint,
    read_record,
    save_checkpoint,
)


@pytest.fixture(scope="module")
def model() -> tf.keras.Model:
    return build_model("ddrnet23_slim", (64, 64), 3, auxiliary=True)


@pytest.fixture
def record(labels: LabelMap) -> CheckpointRecord:
    return CheckpointRecord(
        network="ddrnet23_slim",
        image_size=(64, 64),
        labels=labels,
        auxiliary=True,
        precision="float32",
        epoch=2,
        step=20,
        val_mean_iou=0.5,
    )


@pytest.fixture
def path(model: tf.keras.Model, record: CheckpointRecord, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "best.h5"
    path.parent.mkdir()
    save_checkpoint(model, record, path)
    return path


def test_comes_back_as_it_was_at_another_size_too(
    model: tf.keras.Model, record: CheckpointRecord, path: Path
) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    loaded, found = load_checkpoint(path)
    assert found == record
    np.testing.assert_allclose(loaded(image), model(image)[0], atol=1e-5)
    larger, _ = load_checkpoint(path, image_size=(64, 128))
    assert larger.output_shape == (None, 64, 128, 3)


def test_a_run_folder_stands_for_its_best(path: Path, record: CheckpointRecord) -> None:
    assert read_record(path.parent.parent) == record
    assert digest(path.parent.parent) == digest(path)


def test_nothing_lies_beside_it(path: Path) -> None:
    assert [child.name for child in path.parent.iterdir()] == ["best.h5"]


@pytest.mark.parametrize("content", [b"", b"not hdf5", None])
def test_what_is_no_checkpoint_says_what_would_be(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="best.h5 or last.h5"):
        load_checkpoint(path)


def test_keras_weights_without_a_record_are_refused(model: tf.keras.Model, tmp_path: Path) -> None:
    model.save_weights(tmp_path / "weights.h5")
    with pytest.raises(CheckpointError, match="not a checkpoint of segkit"):
        load_checkpoint(tmp_path / "weights.h5")


def test_a_truncated_checkpoint_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
