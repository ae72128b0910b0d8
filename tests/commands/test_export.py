from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import yaml
from tiny_checkpoints import add_tiny_network, save_tiny_checkpoint
from tiny_streets import write_streets

from segkit import contract
from segkit.__main__ import main
from segkit.engines import open_engine
from segkit.engines.variants import VARIANTS_FILE, read_variants
from segkit.export import served
from segkit.export.openvino import segmentation_function
from segkit.labels import LabelMap

SIZE = (64, 96)


@pytest.fixture
def checkpoint(labels: LabelMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    add_tiny_network(monkeypatch)
    return save_tiny_checkpoint(tmp_path / "best.h5", labels, SIZE)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write_streets(tmp_path / "streets")


@pytest.fixture
def export(checkpoint: Path, data: str, tmp_path: Path) -> Callable[..., int]:
    def run(*flags: str) -> int:
        where = ("--checkpoint", str(checkpoint), "--model_base_path", str(tmp_path / "exports"))
        return main(["export", *where, "--data", data, *flags])

    return run


def versions(tmp_path: Path) -> list[str]:
    folder = tmp_path / "exports"
    return sorted(child.name for child in folder.iterdir()) if folder.is_dir() else []


def test_an_export_is_proved_and_the_proof_is_kept(
    export: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("--format", "openvino", "--batch_sizes", "1", "2") == 0
    text = capsys.readouterr().out
    for name in ("tensorflow:float32", "openvino:float32"):
        assert f"{name} held to checkpoint" in text
    assert text.count("same class         100.000%") == text.count("  passed") == 2
    assert text.count("mean_iou           ") == 2

    version = tmp_path / "exports" / "1"
    tensorflow, openvino = read_variants(version)
    assert (tensorflow.path, openvino.path) == ("", "openvino/float32.xml")
    for variant in (tensorflow, openvino):
        assert variant.proof["passed"] and variant.proof["agreement"] > 0.9999
        assert variant.proof["images"] == 4 and variant.size_bytes > 0
        assert variant.proof["mean_iou"][0] == pytest.approx(variant.proof["mean_iou"][1], abs=1e-4)
    assert json.loads((version / VARIANTS_FILE).read_text())[1]["engine"] == "openvino"
    engine = open_engine(version, "openvino")
    assert engine.metadata is not None and engine.metadata.batch_sizes == (1, 2)
    engine.close()


def reversed_classes(model: Any) -> Any:
    return tf.keras.Model(model.input, model.output[..., ::-1])


def swapped_channels(model: Any) -> Any:
    image = tf.keras.Input(model.input_shape[1:])
    return tf.keras.Model(image, model(image[..., ::-1]))


def without_normalization(model: Any) -> Any:
    image = tf.keras.Input(model.input_shape[1:])
    x = image
    for layer in model.layers[1:]:
        x = x if layer.name == "normalization" else layer(x)
    return tf.keras.Model(image, x)


@pytest.mark.parametrize("form", ["tensorflow", "openvino"])
@pytest.mark.parametrize("fault", [reversed_classes, swapped_channels, without_normalization])
def test_a_form_that_answers_otherwise_is_not_published(
    export: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Any], Any],
    form: str,
) -> None:
    if form == "tensorflow":
        module = importlib.import_module("segkit.export.publish")
        # Its coloured squares would be the first to tell: the real images must do without.
        monkeypatch.setattr(module, "check_answers", lambda *_, **__: None)
        monkeypatch.setattr(
            module,
            "ServedModel",
            lambda model, metadata: served.ServedModel(fault(model), metadata),
        )
    else:
        monkeypatch.setattr(
            "segkit.export.openvino.segmentation_function",
            lambda model: segmentation_function(fault(model)),
        )
    assert export("--format", form) == 1
    captured = capsys.readouterr()
    assert f"{form}:float32: the same class on" in captured.err
    assert "--min_agreement" in captured.err and "nothing was published" in captured.err
    assert "FAILED" in captured.out
    assert versions(tmp_path) == []


def test_classes_under_other_names_are_caught(
    export: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    labels: LabelMap,
) -> None:
    dump = contract.Metadata.to_json

    def mislabeled(self: contract.Metadata) -> str:
        return dump(replace(self, labels=LabelMap(labels.labels[::-1])))

    monkeypatch.setattr(contract.Metadata, "to_json", mislabeled)
    assert export() == 1
    assert "the same class on" in capsys.readouterr().err
    assert versions(tmp_path) == []


def test_a_difference_can_be_allowed(
    export: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "segkit.export.openvino.segmentation_function",
        lambda model: segmentation_function(swapped_channels(model)),
    )
    flags = ("--format", "openvino", "--min_agreement", "0", "--max_miou_drop", "1")
    assert export(*flags) == 0
    assert read_variants(tmp_path / "exports" / "1")[1].proof["agreement"] != 1


def test_images_without_labels_prove_it_too(
    checkpoint: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = f"images:{tmp_path / 'streets' / 'images'}"
    where = ("--checkpoint", str(checkpoint), "--model_base_path", str(tmp_path / "exports"))
    assert main(["export", *where, "--data", images, "--num_images", "3"]) == 0
    text = capsys.readouterr().out
    assert f"3 images of {images}" in text and "mean_iou   " not in text


def test_the_data_of_the_run_is_taken_without_data(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run_1"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "best.h5").write_bytes(checkpoint.read_bytes())
    settings = {"dataset_dir": str(tmp_path / "tfds"), "dataset_name": "streets"}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    flags = ("export", "--checkpoint", str(run), "--model_base_path", str(tmp_path / "exports"))
    assert main(list(flags)) == 1
    assert "there are no real images" in capsys.readouterr().err

    write_streets(tmp_path / "tfds" / "streets")  # as full_semantic's reader takes a folder too
    for old, new in (("images", "rgb"), ("masks", "gt")):
        (tmp_path / "tfds" / "streets" / old).rename(tmp_path / "tfds" / "streets" / new)
    assert main(list(flags)) == 0
    assert f"images of full_semantic:{tmp_path / 'tfds' / 'streets'}" in capsys.readouterr().out


def test_old_versions_go_only_when_asked(
    export: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        assert export("--num_images", "1") == 0
    assert versions(tmp_path) == ["1", "2", "3"]
    assert export("--num_images", "1", "--keep", "2") == 0
    assert versions(tmp_path) == ["3", "4"]
    assert "removed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ("--format", "torch"),
            ("no engine 'torch', which --format", "tensorflow, openvino, tflite, onnx"),
        ),
        (("--format", "openvino:int4"), ("no precision 'int4'", "openvino:bfloat16")),
        (("--batch_sizes", "1", "1"), ("--batch_sizes is 1 1", "different")),
        (("--batch_sizes", "0"), ("--batch_sizes is 0",)),
        (("--min_agreement", "99"), ("--min_agreement is 99", "0.99")),
        (("--num_images", "0"), ("--num_images is 0",)),
        (("--keep", "0"), ("--keep is 0",)),
        (("--data", "streets"), ("names no kind of set", "images:PATH")),
        (("--data", "images:/nowhere"), ("'/nowhere' does not exist",)),
        (("--image_size", "8", "8"), ("image size 8 8 is too small",)),
        (("--model_name", ""), ("--model_name is empty",)),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(
    export: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    assert export(*flags) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in words), message
    assert versions(tmp_path) == []


def test_a_form_that_this_machine_cannot_run_is_not_published(
    export: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("segkit.engines.cpu.computes_bfloat16", lambda: False)
    assert export("--format", "openvino:bfloat16") == 1
    message = capsys.readouterr().err
    assert "no instructions for bfloat16" in message and "openvino:float32" in message
    assert versions(tmp_path) == []
