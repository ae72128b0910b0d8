from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_checkpoints import add_tiny_network, save_tiny_checkpoint
from tiny_streets import write_streets

from segkit.__main__ import main
from segkit.export import publish
from segkit.export.checkpoint import describe_checkpoint
from segkit.export.formats import TENSORFLOW, VariantName
from segkit.labels import LabelMap
from segkit.models.checkpoints import load_checkpoint
from segkit.serving.server import ModelServer

SIZE = (64, 96)


@pytest.fixture(scope="module")
def made(labels: LabelMap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """best.h5, and exports: 1 in two forms at the trained size, 2 larger, 3 mislabeled."""
    folder = tmp_path_factory.mktemp("verify")
    with pytest.MonkeyPatch.context() as monkeypatch:
        add_tiny_network(monkeypatch)
        checkpoint = save_tiny_checkpoint(folder / "best.h5", labels, SIZE)
        base_path = folder / "exports"
        for size in (SIZE, (128, 192), SIZE):
            model, record = load_checkpoint(checkpoint, image_size=size)
            metadata = describe_checkpoint(checkpoint, record, image_size=size, batch_sizes=[1])
            if base_path.is_dir() and (base_path / "2").is_dir():
                metadata = replace(metadata, labels=LabelMap(metadata.labels.labels[::-1]))
            names = (TENSORFLOW, VariantName("openvino"))
            publish(model, metadata, base_path, variants=names if size == SIZE else (TENSORFLOW,))
    return folder


@pytest.fixture
def checkpoint(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    add_tiny_network(monkeypatch)
    return made / "best.h5"


@pytest.fixture
def exports(made: Path) -> Path:
    return made / "exports"


@pytest.fixture
def verify(tmp_path: Path) -> Callable[..., int]:
    data = write_streets(tmp_path / "streets")
    return lambda *words: main(["verify", *map(str, words), "--data", data])


def test_checkpoint_export_and_server_are_held_to_each_other(
    verify: Callable[..., int],
    checkpoint: Path,
    exports: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(exports / "1", tmp_path / "served" / "1")
    with ModelServer.of("streets", tmp_path / "served", engine="openvino") as server:
        targets = [
            str(checkpoint),
            str(tmp_path / "served"),
            f"{tmp_path / 'served' / '1'}@openvino:float32",
            f"{server.address}/streets",
        ]
        for reference, candidate in zip(targets, targets[1:] + targets[:1], strict=True):
            assert verify(reference, candidate) == 0
    text = capsys.readouterr().out
    assert text.count("same class         100.000%") == 4
    for words in (f"checkpoint {checkpoint}", "tensorflow:float32", "openvino:float32", "streets"):
        assert words in text


def test_a_checkpoint_sees_images_at_the_size_of_the_other(
    verify: Callable[..., int], checkpoint: Path, exports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(checkpoint, exports / "2") == 0
    assert "100.000%" in capsys.readouterr().out


def test_what_answers_otherwise_exits_with_1_and_is_written_down(
    verify: Callable[..., int],
    checkpoint: Path,
    exports: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert verify(checkpoint, exports / "3", "--json", tmp_path / "proof.json") == 1
    captured = capsys.readouterr()
    assert "FAILED" in captured.out and "does not answer as" in captured.err
    record = json.loads((tmp_path / "proof.json").read_text())
    assert record["passed"] is False and record["agreement"] < 0.99
    assert verify(checkpoint, exports / "3", "--json", tmp_path / "proof.json") == 1
    assert "proof.json' exists" in capsys.readouterr().err


def test_two_targets_without_data_are_refused(
    exports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(exports / "1"), f"{exports / '1'}@openvino"]) == 1
    assert "no real images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/nowhere", ("no '/nowhere'", "HOST:PORT")),
        ("{checkpoint}@openvino", ("names an engine for a checkpoint",)),
        ("{exports}/1@torch", ("no engine 'torch'", "openvino")),
        ("{exports}/1@tflite", ("no variant for tflite", "openvino:float32")),
        ("127.0.0.1:1", ("127.0.0.1:1",)),
    ],
)
def test_targets_that_cannot_be_opened_are_named(
    verify: Callable[..., int],
    checkpoint: Path,
    exports: Path,
    capsys: pytest.CaptureFixture[str],
    target: str,
    words: tuple[str, ...],
) -> None:
    assert verify(checkpoint, target.format(checkpoint=checkpoint, exports=exports)) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in words), message
