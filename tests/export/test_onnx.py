from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from segkit.errors import EngineUnavailable, ExportError
from segkit.export.onnx import write_onnx
from segkit.models import NETWORKS, build_model

SIZE = (64, 96)


def test_without_the_extra_it_says_how_to_install_it(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(EngineUnavailable, match="onnx needs packages that are not") as caught:
        write_onnx(tiny_model, tmp_path / "a.onnx")
    assert '-e ".[onnx]"' in caught.value.next_step
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def onnx() -> Any:
    pytest.importorskip("tf2onnx", reason="needs the extra segkit[onnx]")
    return pytest.importorskip("onnx", reason="needs the extra segkit[onnx]")


@pytest.fixture
def runtime(onnx: Any) -> Any:
    return pytest.importorskip("onnxruntime", reason="needs the extra segkit[onnx]")


def answers(runtime: Any, path: Path, image: Any) -> dict[str, Any]:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def image_of_squares(batch_size: int) -> Any:
    """Of noise a deep network amplifies the rounding of another graph until classes differ."""
    grid = np.random.default_rng(0).integers(0, 256, (batch_size, 4, 6, 3), np.uint8)
    return grid.repeat(16, axis=1).repeat(16, axis=2)


def test_inputs_and_outputs_are_those_of_the_contract(
    onnx: Any, tiny_model: Any, tmp_path: Path
) -> None:
    write_onnx(tiny_model, tmp_path / "onnx" / "a.onnx")
    graph = onnx.load_model(tmp_path / "onnx" / "a.onnx").graph
    found = {
        tensor.name: (
            tensor.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in tensor.type.tensor_type.shape.dim],
        )
        for tensor in (*graph.input, *graph.output)
    }
    uint8 = onnx.TensorProto.UINT8
    assert found == {
        "image": (uint8, ["B", 64, 96, 3]),
        "class_ids": (uint8, ["B", 64, 96]),
        "confidence": (uint8, ["B", 64, 96]),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_answers_as_in_keras(name: str, onnx: Any, runtime: Any, tmp_path: Path) -> None:
    tf.keras.utils.set_random_seed(3)
    model = build_model(name, SIZE, 5)
    path = tmp_path / "a.onnx"
    write_onnx(model, path)
    image = image_of_squares(2)
    found = answers(runtime, path, image)
    logits = model(image.astype(np.float32), training=False)
    assert np.mean(found["class_ids"] == np.argmax(logits, axis=-1)) > 0.999
    probability = np.max(tf.nn.softmax(logits), axis=-1)
    np.testing.assert_allclose(found["confidence"], probability * 255, atol=1.01)

    graph = onnx.load_model(path).graph
    resizes = [node for node in graph.node if node.op_type == "Resize"]
    assert resizes
    for node in resizes:
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        assert attributes["mode"] == b"linear"
        assert attributes["coordinate_transformation_mode"] == b"half_pixel"
    # From (B, H, W, 3) and nowhere else: else each convolution would stand between two.
    assert [node.op_type for node in graph.node].count("Transpose") == 1


def test_of_equal_logits_the_lowest_class_wins(runtime: Any, tmp_path: Path) -> None:
    inputs = tf.keras.Input((*SIZE, 3))
    model = tf.keras.Model(inputs, tf.keras.layers.Conv2D(4, 1, kernel_initializer="zeros")(inputs))
    model.layers[-1].bias.assign([0.0, 1.0, 1.0, 0.0])
    write_onnx(model, tmp_path / "a.onnx")
    found = answers(runtime, tmp_path / "a.onnx", image_of_squares(1))
    np.testing.assert_array_equal(found["class_ids"], 1)
    np.testing.assert_array_equal(found["confidence"], round(255 * np.e / (2 * np.e + 2)))


@pytest.mark.parametrize("logit", [80.0, 1e30])
def test_large_logits_are_certain(runtime: Any, tmp_path: Path, logit: float) -> None:
    inputs = tf.keras.Input((*SIZE, 3))
    model = tf.keras.Model(inputs, tf.keras.layers.Conv2D(2, 1, kernel_initializer="zeros")(inputs))
    model.layers[-1].bias.assign([-logit, logit])
    write_onnx(model, tmp_path / "a.onnx")
    found = answers(runtime, tmp_path / "a.onnx", image_of_squares(1))
    np.testing.assert_array_equal(found["class_ids"], 1)
    np.testing.assert_array_equal(found["confidence"], 255)


def test_an_operation_that_onnx_has_not_is_an_error(onnx: Any, tmp_path: Path) -> None:
    inputs = tf.keras.Input((*SIZE, 3))
    outputs = tf.keras.layers.Lambda(lambda x: tf.math.igamma(x, x))(inputs)
    with pytest.raises(ExportError, match="cannot be converted to ONNX: .*Igamma") as caught:
        write_onnx(tf.keras.Model(inputs, outputs), tmp_path / "a.onnx")
    assert "without onnx" in caught.value.next_step
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "out_size"), [((3, 5), (8, 12)), ((7, 3), (24, 10))])
def test_a_resize_by_a_broken_factor_gives_the_whole_size(
    runtime: Any, tmp_path: Path, size: tuple[int, int], out_size: tuple[int, int]
) -> None:
    image = tf.keras.Input((*out_size, 3))
    small = tf.image.resize(tf.image.resize(image, size), out_size)
    model = tf.keras.Model(image, small + image)  # of two sizes, if one were a row short
    write_onnx(model, tmp_path / "x.onnx")
    session = runtime.InferenceSession(str(tmp_path / "x.onnx"))
    batch = np.random.default_rng(0).integers(0, 256, (2, *out_size, 3), np.uint8)
    (ids,) = session.run(["class_ids"], {"image": batch})
    expected = np.argmax(model(batch.astype(np.float32)), axis=-1)
    assert np.mean(ids == expected) > 0.99
