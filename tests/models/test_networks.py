"""What every network must do; a new line in NETWORKS is tested here without another word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from segkit.contract import Metadata
from segkit.engines import open_engine
from segkit.errors import ModelError
from segkit.export import publish
from segkit.labels import LabelMap
from segkit.models import NETWORKS, build_model, inference_model
from segkit.models.graph import float_core, freeze

SIZE = (64, 96)
# What TF-TRT 2.15 splits a graph at, and calls, behind which XLA would stand.
UNWANTED = {"SpaceToBatchND", "BatchToSpaceND", "ResizeBilinear", "PartitionedCall"}


@pytest.fixture(scope="module", params=NETWORKS)
def name(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def model(name: str) -> tf.keras.Model:
    """Random weights with the normalisation statistics that belong to them.

    Without these the activations of a deep network grow by orders of magnitude, and what is left of
    float32 after that decides the classes.
    """
    tf.keras.utils.set_random_seed(2)
    model = build_model(name, SIZE, 4, auxiliary=True)
    norms = [x for x in model.layers if isinstance(x, tf.keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(squares(*SIZE, count=8), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model


@pytest.fixture(scope="module")
def for_tensorrt(name: str, model: tf.keras.Model) -> tf.keras.Model:
    twin = build_model(name, SIZE, 4, auxiliary=True, resize="matmul")
    twin.set_weights(model.get_weights())
    return twin


@pytest.fixture
def mixed_bfloat16() -> Iterator[None]:
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def squares(height: int, width: int, *, count: int = 2) -> np.ndarray:
    """Images of coloured squares: unlike noise, they differ in what a deep layer sees."""
    rng = np.random.default_rng(0)
    grid = rng.uniform(0, 255, (count, -(-height // 16), -(-width // 16), 3)).astype(np.float32)
    return grid.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]


@pytest.mark.parametrize(("size", "num_classes"), [((64, 128), 1), ((70, 93), 150)])
def test_logits_have_the_size_of_the_image(
    name: str, size: tuple[int, int], num_classes: int
) -> None:
    model = build_model(name, size, num_classes, auxiliary=True)
    for logits in tf.nest.flatten(model(squares(*size))):
        assert logits.shape == (2, *size, num_classes)
        assert logits.dtype == tf.float32
        assert np.isfinite(logits).all()


def test_every_weight_gets_a_gradient(model: tf.keras.Model) -> None:
    with tf.GradientTape() as tape:
        outputs = tf.nest.flatten(model(squares(*SIZE), training=True))
        loss = sum(tf.reduce_mean(tf.square(logits)) for logits in outputs)
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.name
        assert np.isfinite(gradient).all(), variable.name


def test_weights_survive_a_file_and_another_image_size(
    name: str, model: tf.keras.Model, tmp_path: Path
) -> None:
    model.save_weights(tmp_path / "weights.h5")
    other = build_model(name, (97, 64), 4, auxiliary=True)
    other.load_weights(tmp_path / "weights.h5")
    for mine, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=mine.name)


def test_a_saved_model_answers_the_same(for_tensorrt: tf.keras.Model, tmp_path: Path) -> None:
    model = inference_model(for_tensorrt)
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(squares(*SIZE)), model(squares(*SIZE)), atol=1e-5)


@pytest.mark.usefixtures("mixed_bfloat16")
def test_mixed_precision_keeps_float32_logits(name: str) -> None:
    model = build_model(name, SIZE, 4, auxiliary=True)
    logits = tf.nest.flatten(model(squares(*SIZE), training=True))
    assert {single.dtype for single in logits} == {tf.float32}
    assert {weight.dtype for weight in model.weights} == {tf.float32}
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)


def test_an_export_answers_as_the_model(name: str, model: tf.keras.Model, tmp_path: Path) -> None:
    metadata = Metadata(
        labels=LabelMap.from_names("abcd"),
        image_size=SIZE,
        architecture=name,
        normalization=NETWORKS[name].normalization.words,
    )
    inference = inference_model(model)
    engine = open_engine(publish(inference, metadata, tmp_path))
    image = squares(*SIZE).astype(np.uint8)
    answer = engine.run("serving_default", {"image": image})["class_ids"]
    expected = np.argmax(inference(image.astype(np.float32)), axis=-1)
    assert len(np.unique(expected)) > 1
    assert np.mean(answer == expected) > 0.999
    engine.close()


def test_both_resizes_give_the_same_logits(
    model: tf.keras.Model, for_tensorrt: tf.keras.Model
) -> None:
    for ours, theirs in zip(
        tf.nest.flatten(for_tensorrt(squares(*SIZE))),
        tf.nest.flatten(model(squares(*SIZE))),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_both_resizes_name_the_same_classes_on_real_streets(
    name: str, model: tf.keras.Model, shared_dir: Path
) -> None:
    paths = sorted((shared_dir / "data/camvid/JPEGImages").glob("*.jpg"))[::200]
    image = np.stack([tf.io.decode_jpeg(path.read_bytes())[:192, :256] for path in paths])
    logits = []
    for resize in ("bilinear", "matmul"):
        twin = inference_model(build_model(name, (192, 256), 4, auxiliary=True, resize=resize))
        for layer in filter(lambda layer: layer.weights, twin.layers):
            layer.set_weights(model.get_layer(layer.name).get_weights())
        logits.append(twin.predict_on_batch(image.astype(np.float32)))
    tolerance = 1e-4 * np.abs(logits[0]).max()
    np.testing.assert_allclose(logits[1], logits[0], atol=tolerance)
    second, first = np.sort(logits[0], axis=-1)[..., -2:].transpose(3, 0, 1, 2)
    clear = first - second > 2 * tolerance  # the rest are ties
    assert clear.mean() > 0.95
    classes = [np.argmax(single, axis=-1)[clear] for single in logits]
    np.testing.assert_array_equal(*classes)


def test_the_graph_for_tensorrt_has_no_op_that_splits_it(for_tensorrt: tf.keras.Model) -> None:
    graph = freeze(float_core(inference_model(for_tensorrt))).graph
    operations = graph.get_operations()
    ops = Counter(operation.type for operation in operations)
    assert ops["Conv2D"] > 50
    assert not UNWANTED & set(ops)
    for operation in operations:
        if operation.type == "Conv2D":
            image, kernel = operation.inputs
            assert image.shape[-1] == kernel.shape[-2], f"{operation.name} is grouped"


def test_an_image_that_is_too_small_is_told_what_would_do(name: str) -> None:
    with pytest.raises(ModelError, match="--image_size 32 96"):
        build_model(name, (31, 96), 4)


def test_a_misspelt_name_is_answered_with_the_close_one(name: str) -> None:
    with pytest.raises(ModelError, match=f"perhaps '{name}'"):
        build_model(f"{name}s", (64, 64), 4)
