from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import tensorflow as tf

from segkit.errors import EngineUnavailable, ExportError
from segkit.export.openvino import write_openvino

IMAGES = [np.random.default_rng(i).integers(0, 256, (64, 96, 3), np.uint8) for i in range(8)]


def run(path: Path, image: Any) -> dict[str, Any]:
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = model(image)
    return {output.any_name: results[output] for output in model.outputs}


def test_float32_answers_as_the_model_does(tiny_model: Any, tmp_path: Path) -> None:
    path = tmp_path / "openvino" / "float32.xml"
    write_openvino(tiny_model, path, precision="float32")
    batch = np.stack(IMAGES[:2])
    results = run(path, batch)
    logits = tiny_model(batch.astype(np.float32))
    assert {name: value.dtype for name, value in results.items()} == {
        "class_ids": np.uint8,
        "confidence": np.uint8,
    }
    assert np.mean(results["class_ids"] == np.argmax(logits, axis=-1)) > 0.999
    probability = np.max(tf.nn.softmax(logits), axis=-1)
    assert np.abs(results["confidence"] - probability * 255).max() < 1.01
    assert sorted(file.name for file in path.parent.iterdir()) == ["float32.bin", "float32.xml"]


def test_the_lowest_of_equal_classes_wins(tmp_path: Path) -> None:
    image = tf.keras.Input((32, 32, 3))
    equal = tf.keras.Model(image, tf.zeros_like(image[..., :1]) + tf.constant([1.0, 2.0, 2.0]))
    write_openvino(equal, tmp_path / "equal.xml", precision="float32")
    ids = run(tmp_path / "equal.xml", np.zeros((1, 32, 32, 3), np.uint8))["class_ids"]
    assert (ids == 1).all()


def test_int8_is_quantized_by_the_images(tiny_model: Any, tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="needs the extra segkit[int8]")
    path = tmp_path / "int8.xml"
    write_openvino(tiny_model, path, precision="int8", calibration=IMAGES)
    ops = [op.get_type_name() for op in openvino.Core().read_model(path).get_ops()]
    assert "FakeQuantize" in ops
    image = IMAGES[0][None]
    expected = np.argmax(tiny_model(image.astype(np.float32)), axis=-1)
    assert np.mean(run(path, image)["class_ids"] == expected) > 0.9


def test_int8_needs_images(tiny_model: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="int8 needs images") as caught:
        write_openvino(tiny_model, tmp_path / "int8.xml", precision="int8")
    assert "--calibration" in caught.value.next_step
    assert list(tmp_path.iterdir()) == []


def test_int8_without_its_package_says_what_to_install(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(EngineUnavailable, match="needs NNCF") as caught:
        write_openvino(tiny_model, tmp_path / "x.xml", precision="int8", calibration=IMAGES)
    assert '".[int8]"' in caught.value.next_step


def test_nothing_is_reported_over_the_network(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = builtins.__import__

    def watched(name: str, *args: Any, **kwargs: Any) -> Any:
        module = real(name, *args, **kwargs)
        if name.startswith("openvino_telemetry"):
            asked.append(name)  # only if it could be imported
        return module

    monkeypatch.setattr(builtins, "__import__", watched)
    write_openvino(tiny_model, tmp_path / "x.xml", precision="float32")
    assert asked == []


def test_what_openvino_cannot_convert_is_an_export_error(tmp_path: Path) -> None:
    image = tf.keras.Input((32, 32, 3))
    logits = tf.keras.layers.Lambda(lambda x: tf.numpy_function(lambda y: y, [x], tf.float32))(
        image
    )
    logits.set_shape((None, 32, 32, 3))
    with pytest.raises(ExportError, match="OpenVINO cannot convert the network"):
        write_openvino(tf.keras.Model(image, logits), tmp_path / "x.xml", precision="float32")
