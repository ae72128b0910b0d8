from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python.schema_py_generated import TensorType
from tensorflow.lite.tools import flatbuffer_utils

from segkit.errors import ExportError
from segkit.export.tflite import write_tflite
from segkit.models import build_model

IMAGES = [np.random.default_rng(i).integers(0, 256, (64, 96, 3), np.uint8) for i in range(4)]
FLOATS = (TensorType.FLOAT16, TensorType.FLOAT32, TensorType.FLOAT64)
# As tests of exports use them: of noise a deep network amplifies every rounding.
SQUARES = [image[:8, :12].repeat(8, axis=0).repeat(8, axis=1) for image in IMAGES]


@pytest.fixture(scope="module")
def ddrnet() -> Any:
    tf.keras.utils.set_random_seed(3)
    return build_model("ddrnet23_slim", (64, 96), 5)


@pytest.fixture(scope="module")
def ddrnet_files(ddrnet: Any, tmp_path_factory: Any) -> dict[str, Path]:
    """Precision -> a real network's file."""
    folder = tmp_path_factory.mktemp("ddrnet")
    paths = {precision: folder / f"{precision}.tflite" for precision in ("float32", "int8")}
    for precision, path in paths.items():
        write_tflite(ddrnet, path, precision=precision, calibration=SQUARES)
    return paths


def interpreter(path: Path) -> Any:
    kind = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return tf.lite.Interpreter(str(path), experimental_op_resolver_type=kind)


def run(path: Path, image: Any, signature: str = "serving_default") -> dict[str, Any]:
    return dict(interpreter(path).get_signature_runner(signature)(image=image[np.newaxis]))


def classes(model: Any, image: Any) -> Any:
    return np.argmax(model(image[np.newaxis].astype(np.float32), training=False), axis=-1)


def float_ops(path: Path) -> set[str]:
    """Names of the ops, of both subgraphs, that take or give floating-point numbers."""
    model = flatbuffer_utils.read_model(str(path))
    found = set()
    for graph in model.subgraphs:
        for op in graph.operators:
            tensors = (graph.tensors[index] for index in (*op.inputs, *op.outputs) if index >= 0)
            if any(tensor.type in FLOATS for tensor in tensors):
                found.add(flatbuffer_utils.opcode_to_name(model, op.opcodeIndex))
    return found


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_file_answers_as_the_model_does(tiny_model: Any, tmp_path: Path, precision: str) -> None:
    path = tmp_path / "tflite" / f"{precision}.tflite"
    write_tflite(tiny_model, path, precision=precision)
    for image in IMAGES:
        ids = run(path, image)["class_ids"]
        assert ids.dtype == np.uint8 and ids.shape == (1, 64, 96)
        assert np.mean(ids == classes(tiny_model, image)) > 0.999
        both = run(path, image, "confidence")
        np.testing.assert_array_equal(both["class_ids"], ids)
        probability = np.max(tf.nn.softmax(tiny_model(image[None].astype(np.float32))), axis=-1)
        assert both["confidence"].dtype == np.uint8
        assert np.abs(both["confidence"] - probability * 255).max() < 1.01


def test_who_names_no_signature_gets_class_ids_alone(tiny_model: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    write_tflite(tiny_model, path, precision="float32")
    plain = interpreter(path)
    assert set(plain.get_signature_list()) == {"serving_default", "confidence"}
    plain.allocate_tensors()
    (image,), (ids,) = plain.get_input_details(), plain.get_output_details()
    assert (image["dtype"], tuple(image["shape"])) == (np.uint8, (1, 64, 96, 3))
    assert (ids["dtype"], tuple(ids["shape"])) == (np.uint8, (1, 64, 96))
    plain.set_tensor(image["index"], IMAGES[0][None])
    plain.invoke()
    np.testing.assert_array_equal(plain.get_tensor(ids["index"]), run(path, IMAGES[0])["class_ids"])


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_lowest_of_equal_classes_wins(tmp_path: Path, precision: str) -> None:
    image = tf.keras.Input((32, 32, 3))
    equal = tf.keras.Model(image, tf.zeros_like(image[..., :1]) + tf.constant([1.0, 2.0, 2.0]))
    write_tflite(equal, tmp_path / "equal.tflite", precision=precision)
    ids = run(tmp_path / "equal.tflite", np.zeros((32, 32, 3), np.uint8))["class_ids"]
    assert (ids == 1).all()


def test_a_network_of_segkit_is_the_same_function(
    ddrnet: Any, ddrnet_files: dict[str, Path]
) -> None:
    for image in SQUARES:
        ids = run(ddrnet_files["float32"], image)["class_ids"]
        assert np.mean(ids == classes(ddrnet, image)) > 0.999


def test_the_signatures_share_the_weights(tmp_path: Path) -> None:
    image = tf.keras.Input((32, 32, 3))
    x = tf.keras.layers.Conv2D(64, 3)(image)
    x = tf.keras.layers.Conv2D(256, 3)(x)
    large = tf.keras.Model(image, tf.keras.layers.Conv2D(3, 1)(x))
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for precision, weight_bytes in {"float32": 4, "float16": 2, "int8": 1}.items():
        path = tmp_path / f"{precision}.tflite"
        write_tflite(large, path, precision=precision, calibration=[noise])
        assert path.stat().st_size < 1.2 * weight_bytes * large.count_params(), precision


def test_int8_has_no_float_op_in_either_signature(ddrnet_files: dict[str, Path]) -> None:
    assert "CONV_2D" in float_ops(ddrnet_files["float32"])
    assert float_ops(ddrnet_files["int8"]) == set()


def test_int8_answers_nearly_as_the_model_does(tiny_model: Any, tmp_path: Path) -> None:
    path = tmp_path / "int8.tflite"
    write_tflite(tiny_model, path, precision="int8", calibration=IMAGES)
    for image in IMAGES:
        ids = run(path, image)["class_ids"]
        assert ids.dtype == np.uint8 and ids.shape == (1, 64, 96)
        assert np.mean(ids == classes(tiny_model, image)) > 0.97
        both = run(path, image, "confidence")
        np.testing.assert_array_equal(both["class_ids"], ids)
        probability = np.max(tf.nn.softmax(tiny_model(image[None].astype(np.float32))), axis=-1)
        assert both["confidence"].dtype == np.uint8
        assert np.abs(both["confidence"] - probability * 255).max() < 6


def test_int8_takes_the_image_as_it_is_whatever_the_brightness_of_the_others(
    tiny_model: Any, tmp_path: Path
) -> None:
    dim = [image // 4 + 60 for image in IMAGES]
    kept = [image.copy() for image in dim]
    write_tflite(tiny_model, tmp_path / "x.tflite", precision="int8", calibration=dim)
    np.testing.assert_array_equal(dim, kept)
    loaded = interpreter(tmp_path / "x.tflite")
    for signature in ("serving_default", "confidence"):
        details = loaded.get_signature_runner(signature).get_input_details()["image"]
        assert details["quantization"] == (1.0, 0)
    probability = loaded.get_signature_runner("confidence").get_output_details()["confidence"]
    assert probability["quantization"] == (1 / 256, 0)


def test_int8_needs_images(tiny_model: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="int8 needs images") as caught:
        write_tflite(tiny_model, tmp_path / "int8.tflite", precision="int8")
    assert caught.value.expected and "--calibration" in caught.value.next_step
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image", [np.zeros((32, 96, 3), np.uint8), np.zeros((64, 96, 3))])
def test_int8_needs_images_of_the_models_size(tiny_model: Any, tmp_path: Path, image: Any) -> None:
    with pytest.raises(ExportError, match="an image to calibrate int8 by is") as caught:
        write_tflite(tiny_model, tmp_path / "x.tflite", precision="int8", calibration=[image])
    assert "uint8 (64, 96, 3)" in caught.value.expected


def test_the_converter_prints_nothing(
    tiny_model: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    write_tflite(tiny_model, tmp_path / "x.tflite", precision="int8", calibration=IMAGES)
    assert capfd.readouterr() == ("", "")


def test_what_tflite_does_not_know_is_said(tmp_path: Path) -> None:
    image = tf.keras.Input((32, 32, 3))
    strange = tf.keras.Model(image, tf.keras.layers.Lambda(tf.math.bessel_i0e)(image))
    with pytest.raises(ExportError, match="TFLite cannot convert the network") as caught:
        write_tflite(strange, tmp_path / "x.tflite", precision="float32")
    assert "without tflite" in caught.value.next_step
    assert list(tmp_path.iterdir()) == []
