from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from segkit.__main__ import main
from segkit.export.tensorrt_report import layer_of

COMMAND = "tensorrt-report"


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Text and JSON for what Keras alone makes of dilation and of a bilinear resize."""
    x = image = tf.keras.Input((16, 16, 3))
    for _ in range(3):
        x = tf.keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = tf.keras.layers.DepthwiseConv2D(
        3, padding="same", dilation_rate=2, name="branch.1/depthwise"
    )(x)
    for _ in range(2):
        x = tf.keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = tf.keras.layers.UpSampling2D(2, interpolation="bilinear", name="decoder/up")(x)
    for _ in range(2):
        x = tf.keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    folder = tmp_path_factory.mktemp("stock")
    tf.keras.Model(image, x, name="stock").save(str(folder / "model"), save_format="tf")
    text = io.StringIO()
    # From inside the folder: the text has the path as given, and its lines have a width to keep.
    flags = ("--saved_model", "model", "--json", "report.json")
    with contextlib.chdir(folder), contextlib.redirect_stdout(text):
        assert main([COMMAND, *flags]) == 0
    return text.getvalue(), json.loads((folder / "report.json").read_text(encoding="utf-8"))


def _report(capsys: pytest.CaptureFixture[str], *flags: Any) -> dict[str, Any]:
    assert main([COMMAND, *map(str, flags), "--json", "-"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_network_built_for_tensorrt_is_one_engine(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--model", "ddrnet23_slim", "--image_size", "64", "64", "--num_classes", "3")
    assert main([COMMAND, *flags]) == 0
    text = capsys.readouterr().out
    assert "ddrnet23_slim, 64x64, resize matmul: 1 TensorRT engine predicted" in text
    assert "what splits it" not in text
    assert text.rstrip().splitlines()[-2].startswith("A prediction")
    assert max(map(len, text.splitlines())) <= 100


def test_a_stock_keras_model_shows_what_splits_it(stock: tuple[str, dict[str, Any]]) -> None:
    _, document = stock
    splitting = {op["op"]: op for op in document["refused"] if op["splits"]}
    assert document["num_segments"] == 3
    assert set(splitting) == {"SpaceToBatchND", "BatchToSpaceND", "ResizeBilinear"}
    assert splitting["SpaceToBatchND"]["layer"] == "branch.1/depthwise"
    assert "native=True" in splitting["SpaceToBatchND"]["remedy"]
    assert splitting["ResizeBilinear"]["layer"] == "decoder/up"
    assert 'resize="matmul"' in splitting["ResizeBilinear"]["remedy"]
    assert document["too_small"] == ["branch.1/depthwise"]
    assert document["confirmed_on_gpu"] is False


def test_the_text_names_layer_op_and_remedy(stock: tuple[str, dict[str, Any]]) -> None:
    text, _ = stock
    assert "3 TensorRT engines predicted" in text
    assert "  branch.1/depthwise  SpaceToBatchND [1], BatchToSpaceND [1]\n" in text
    assert "  decoder/up          ResizeBilinear [2]\n" in text
    assert "  [2] build the network with resize=" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_ends_of_an_export_cost_no_split(
    capsys: pytest.CaptureFixture[str], tiny_export: Path
) -> None:
    document = _report(capsys, "--saved_model", tiny_export / "1")
    assert document["num_segments"] == 1
    at_the_ends = {op["op"] for op in document["refused"]}
    assert {"EnsureShape", "Cast", "ArgMax"} <= at_the_ends
    assert not any(op["splits"] for op in document["refused"])


def test_a_segment_below_the_minimum_is_no_engine(
    capsys: pytest.CaptureFixture[str], tiny_export: Path
) -> None:
    flags = ("--saved_model", tiny_export / "1", "--minimum_segment_size", 50)
    document = _report(capsys, *flags)
    assert document["segments"] == []
    assert document["converted_share"] == 0
    assert len(document["too_small"]) > 1


def test_json_goes_to_a_file(
    capsys: pytest.CaptureFixture[str], tiny_export: Path, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    flags = ("--saved_model", str(tiny_export / "1"), "--signature", "describe")
    path.write_text("of yesterday")
    assert main([COMMAND, *flags, "--json", str(path), "--overwrite"]) == 0
    assert "0 TensorRT engines predicted" in capsys.readouterr().out
    assert json.loads(path.read_text(encoding="utf-8"))["num_segments"] == 0
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), ("neither --model nor --saved_model", "exactly one")),
        (("--model", "ddrnet23_slim", "--saved_model", "x"), ("both --model", "exactly one")),
        (("--model", "ddrnet23"), ("no network 'ddrnet23'", "ddrnet23_slim")),
        (("--model", "ddrnet23_slim", "--minimum_segment_size", "0"), ("minimum_segment_size",)),
        (("--saved_model", "/nowhere"), ("'/nowhere' cannot be loaded as a SavedModel",)),
    ],
)
def test_mistakes_are_named(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert main([COMMAND, *flags]) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


def test_a_damaged_saved_model_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\xff not a SavedModel")
    assert main([COMMAND, "--saved_model", str(tmp_path)]) == 1
    assert "cannot be loaded as a SavedModel" in capsys.readouterr().err


def test_a_signature_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], tiny_export: Path
) -> None:
    flags = ("--saved_model", str(tiny_export / "1"), "--signature", "logits")
    assert main([COMMAND, *flags]) == 1
    message = capsys.readouterr().err
    assert "no signature 'logits'" in message and "confidence" in message


def test_json_into_a_folder_that_does_not_exist_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "absent" / "report.json"
    assert main([COMMAND, "--model", "ddrnet23_slim", "--json", str(path)]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_file_is_not_overwritten_silently(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    path.write_text("precious")
    assert main([COMMAND, "--model", "ddrnet23_slim", "--json", str(path)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("node", "layer"),
    [
        ("net/layer1.0.conv1/Conv2D", "layer1.0.conv1"),
        ("net/expanded_conv_2/Add/add", "expanded_conv_2/Add"),
        ("net/aspp.1.depthwise/depthwise", "aspp.1.depthwise"),
        ("net/expanded_conv_2/depthwise/depthwise/SpaceToBatchND", "expanded_conv_2/depthwise"),
        ("net/up/resize/ResizeBilinear", "up"),
        ("StatefulPartitionedCall/net/conv/Conv2D", "conv"),
        ("StatefulPartitionedCall/StatefulPartitionedCall_1/net/conv/Conv2D", "conv"),
        ("StatefulPartitionedCall/ArgMax", "ArgMax"),
        ("image", "image"),
    ],
)
def test_layer_of_a_node(node: str, layer: str) -> None:
    assert layer_of(node) == layer


def test_a_known_layer_wins_over_a_guess() -> None:
    assert layer_of("net/block/resize/Mul", layers=["block/resize"]) == "block/resize"
    assert layer_of("net/block/inner/scope/Mul", layers=["block"]) == "block"
