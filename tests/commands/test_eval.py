from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tiny_checkpoints import add_tiny_network, save_tiny_checkpoint

from segkit.commands import eval as eval_command
from segkit.config import EXIT_USER_ERROR, execute
from segkit.export import publish
from segkit.export.checkpoint import describe_checkpoint
from segkit.labels import Label, LabelMap
from segkit.models.checkpoints import load_checkpoint
from segkit.serving.server import ModelServer

SIZE = (64, 96)
IMAGES = 4


class TinySet:
    """Stands for a built data set: noise, every class, ignored pixels."""

    def __init__(self, labels: LabelMap, size: tuple[int, int] = SIZE) -> None:
        self.labels, self.size = labels, size

    def num_examples(self, split: str) -> int:
        return IMAGES

    def examples(self, split: str) -> tf.data.Dataset:
        rng = np.random.default_rng(len(split))  # "train" and "val" differ
        shape = (IMAGES, *self.size)
        return tf.data.Dataset.from_tensor_slices(
            {
                "image": rng.integers(0, 256, (*shape, 3), np.uint8),
                "mask": rng.choice(np.array([0, 1, 2, 255], np.uint8), shape),
                "stem": [f"street/{number}" for number in range(IMAGES)],
            }
        )


@pytest.fixture
def data(labels: LabelMap, monkeypatch: pytest.MonkeyPatch) -> None:
    use_set(monkeypatch, TinySet(labels))


def use_set(monkeypatch: pytest.MonkeyPatch, dataset: TinySet) -> None:
    monkeypatch.setattr("segkit.data.full_semantic.open_dataset", lambda *where: dataset)


@pytest.fixture
def checkpoint(labels: LabelMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    add_tiny_network(monkeypatch)
    return save_tiny_checkpoint(tmp_path / "best.h5", labels, SIZE)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at nothing but the record."""
    for name in ("plots.write_confusion_matrix", "class_bars.write_class_bars"):
        monkeypatch.setattr(f"segkit.evaluation.{name}", lambda *drawn: None)


def evaluate(*argv: Any) -> int:
    words = [str(arg) for arg in ("--time_images", 1, *argv)]
    return execute(eval_command, words, prog="eval.py")


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "eval.json").read_text())


def test_a_checkpoint_its_export_and_a_server_score_the_same(
    data: None, no_plots: None, checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    base_path = tmp_path / "exports"
    model, record_ = load_checkpoint(checkpoint)
    metadata = describe_checkpoint(checkpoint, record_, image_size=None, batch_sizes=[1])
    version = publish(model, metadata, base_path, model_name="streets")
    targets = {"checkpoint": checkpoint, "export": version}
    for flag, path in targets.items():
        assert evaluate(f"--{flag}", path, "--output", tmp_path / flag) == 0
    assert evaluate("--export", base_path, "--output", tmp_path / "latest") == 0
    with ModelServer.of("streets", base_path) as server:
        target = ("--server", server.address, "--model_name", "streets")
        assert evaluate(*target, "--output", tmp_path / "server") == 0
    records = [record(tmp_path / name) for name in ("checkpoint", "export", "latest", "server")]
    matrices = [found["confusion_matrix"] for found in records]
    assert all(matrix == matrices[0] for matrix in matrices)
    assert np.count_nonzero(np.array(matrices[0]).sum(axis=0)) > 1  # not one class everywhere
    macs = {found["profile"]["macs"]["total"] for found in records}
    assert len(macs) == 1  # of the network that export and server say they are
    assert f"export {version}" in capsys.readouterr().out


def test_the_output_is_table_record_and_pictures(
    data: None, checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    out, pictures = tmp_path / "out", tmp_path / "pictures"
    argv = ("--checkpoint", checkpoint, "--output", out, "--visualize", pictures)
    assert evaluate(*argv) == 0
    assert sorted(file.name for file in out.iterdir()) == [
        "class_iou.png",
        "confusion_matrix.png",
        "eval.json",
    ]
    stems = [f"street/{number}.png" for number in range(IMAGES)]
    assert sorted(str(p.relative_to(pictures)) for p in pictures.rglob("*.png")) == stems
    found = record(out)
    assert found["num_images"] == len(found["images"]) == IMAGES
    text = capsys.readouterr().out
    assert f"mean_iou {found['summary']['mean_iou']:.4f}" in text
    assert f"worst images: {found['images'][0]['stem']}" in text
    assert f"{IMAGES} pictures written to {pictures}" in text


def test_the_count_keeps_the_worst_images(data: None, checkpoint: Path, tmp_path: Path) -> None:
    out, pictures = tmp_path / "out", tmp_path / "pictures"
    argv = ("--checkpoint", checkpoint, "--output", out)
    assert evaluate(*argv, "--visualize", pictures, "--visualize_count", 1) == 0
    (written,) = pictures.rglob("*.png")
    assert f"street/{written.stem}" == record(out)["images"][0]["stem"]


def test_split_scales_flip_and_windows_reach_the_scores(
    data: None, no_plots: None, checkpoint: Path, tmp_path: Path
) -> None:
    ways: dict[str, list[Any]] = {
        "plain": [],
        "train": ["--split", "train"],
        "flip": ["--flip"],
        "scales": ["--multi_scale", 0.75, 1.25],
        "windows": ["--sliding_window", 48, 48],
        "close_windows": ["--sliding_window", 48, 48, "--stride", 24, 24],
        "one_window": ["--sliding_window", *SIZE],
        "resized": ["--image_size", 48, 72],
    }
    matrices = {}
    for name, flags in ways.items():
        argv = ("--checkpoint", checkpoint, "--output", tmp_path / name, "--time_images", 0)
        assert evaluate(*argv, *flags) == 0
        matrices[name] = json.dumps(record(tmp_path / name)["confusion_matrix"])
        assert "inference_time" not in record(tmp_path / name)
    assert matrices.pop("one_window") == matrices["plain"]
    assert len(set(matrices.values())) == len(matrices)


def test_the_wire_is_compared(data: None, checkpoint: Path, tmp_path: Path, capsys: Any) -> None:
    argv = ("--checkpoint", checkpoint, "--wire", "jpeg:20", "--output", tmp_path / "out")
    assert evaluate(*argv) == 0
    wire = record(tmp_path / "out")["wire"]
    assert wire["quality"] == 20
    assert wire["raw_bytes"] == 3 * SIZE[0] * SIZE[1] > wire["jpeg_bytes"] > 0
    assert wire["confusion_matrix"] != record(tmp_path / "out")["confusion_matrix"]
    assert "jpeg:20" in capsys.readouterr().out


def test_a_server_gets_jpegs(
    labels: LabelMap, running_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_set(monkeypatch, TinySet(labels))
    calls = []
    name = "segkit.evaluation.wire.EncodingSegmenter.segment_encoded"
    monkeypatch.setattr(name, lambda self, data: calls.append(data) or np.zeros(SIZE, np.uint8))
    argv = ("--server", running_server, "--wire", "jpeg:50", "--output", tmp_path / "out")
    assert evaluate(*argv) == 0
    assert len(calls) == IMAGES
    found = record(tmp_path / "out")
    assert "profile" not in found  # 'tiny' of the fixture is no network of segkit
    assert found["wire"]["jpeg_bytes"] == np.mean([len(data) for data in calls])


# === What is refused ===


def refused(capsys: Any, *argv: Any) -> str:
    assert evaluate(*argv) == EXIT_USER_ERROR
    message: str = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("", "nothing is given to be measured"),
        ("--checkpoint a --server b:1", "--checkpoint and --server are given"),
        ("--export a --checkpoint b --server b:1", "--checkpoint and --export and --server"),
    ],
)
def test_exactly_one_thing_is_measured(argv: str, words: str, capsys: Any) -> None:
    message = refused(capsys, *argv.split())
    assert words in message
    assert "exactly one of --checkpoint, --export and --server" in message


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("--export e --multi_scale 0.5 1", "--multi_scale is given with --export"),
        ("--server s:1 --flip true", "no probabilities to average"),
        ("--server s:1 --sliding_window 9 9", "--sliding_window is given with --server"),
        ("--export e --image_size 64 64", "at a fixed size"),
        ("--checkpoint c --multi_scale 0.5 -1", "--multi_scale is 0.5 -1"),
        ("--checkpoint c --multi_scale 100", "above 0 and up to 8"),
        ("--checkpoint c --stride 9 9", "--stride is given without --sliding_window"),
        ("--checkpoint c --sliding_window 9 9 --stride 9 10", "--stride is 9 10"),
        ("--checkpoint c --sliding_window 9 9 --stride 0 9", "no pixel is left out"),
        ("--checkpoint c --sliding_window 0 9", "--sliding_window is 0 9"),
        ("--checkpoint c --sliding_window 9 9 --image_size 64 64", "keeps images at their own"),
        ("--checkpoint c --wire jpg", "--wire is 'jpg'"),
        ("--checkpoint c --wire jpeg:0", "raw, or jpeg:85 (1 to 100)"),
        ("--checkpoint c --wire jpeg:101", "--wire is 'jpeg:101'"),
        ("--checkpoint c --wire jpeg:80 --flip true", "--wire jpeg is given with"),
        ("--checkpoint c --visualize_count 3", "--visualize_count is given without --visualize"),
        ("--checkpoint c --visualize v --visualize_count 0", "--visualize_count is 0"),
        ("--checkpoint c --time_images -1", "--time_images is -1"),
        ("--export e --model_name m", "--model_name is given with --export"),
        ("--checkpoint c --engine tensorflow", "--engine is given with --checkpoint"),
    ],
)
def test_flags_that_make_no_sense(argv: str, words: str, capsys: Any) -> None:
    assert words in refused(capsys, *argv.split())


def test_a_missing_checkpoint(data: None, tmp_path: Path, capsys: Any) -> None:
    message = refused(capsys, "--checkpoint", tmp_path / "run_9")
    assert "there is no checkpoint" in message
    assert "run folder" in message


def test_a_missing_or_empty_export(data: None, tmp_path: Path, capsys: Any) -> None:
    message = refused(capsys, "--export", tmp_path / "nowhere")
    assert "there is no folder" in message
    message = refused(capsys, "--export", tmp_path)
    assert "holds no exported version" in message
    assert "python -m segkit export" in message


def test_an_unknown_engine(data: None, tiny_export: Path, capsys: Any) -> None:
    message = refused(capsys, "--export", tiny_export, "--engine", "torch")
    assert "there is no engine 'torch'" in message


def test_a_wrong_address(data: None, capsys: Any) -> None:
    assert "host:port" in refused(capsys, "--server", "localhost")
    assert "127.0.0.1:1" in refused(capsys, "--server", "127.0.0.1:1")


def test_a_wrong_model_name(data: None, running_server: str, capsys: Any) -> None:
    message = refused(capsys, "--server", running_server, "--model_name", "nobody")
    assert "nobody" in message
    assert "segkit" in message  # what is served instead


@pytest.mark.parametrize("flag", ["checkpoint", "export", "server"])
def test_other_classes_are_refused_with_both_lists(
    flag: str,
    checkpoint: Path,
    tiny_export: Path,
    running_server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    others = LabelMap((Label("sky", (1, 1, 1)), Label("road", (2, 2, 2)), Label("car", (3, 3, 3))))
    use_set(monkeypatch, TinySet(others))
    target = {"checkpoint": checkpoint, "export": tiny_export, "server": running_server}
    message = refused(capsys, f"--{flag}", target[flag])
    assert "are background, road, car" in message
    assert "sky, road, car" in message


def test_other_colors_of_the_same_classes_are_the_same(
    labels: LabelMap, tiny_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_set(monkeypatch, TinySet(LabelMap.from_names(labels.names)))
    assert evaluate("--export", tiny_export, "--time_images", 0) == 0


def test_a_window_larger_than_an_image(data: None, checkpoint: Path, capsys: Any) -> None:
    message = refused(capsys, "--checkpoint", checkpoint, "--sliding_window", 65, 96)
    assert "window of 65 96 is larger than an image of 64 96" in message
    assert "smaller --sliding_window" in message


@pytest.mark.parametrize("flag", ["output", "visualize"])
def test_a_folder_in_use_is_kept(
    flag: str, data: None, checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = tmp_path / "used"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    argv = ("--checkpoint", checkpoint, f"--{flag}", folder)
    message = refused(capsys, *argv)
    assert f"of --{flag} is not empty" in message
    assert "--overwrite" in message
    assert [file.name for file in folder.iterdir()] == ["mine.txt"]
    assert evaluate(*argv, "--overwrite", "true") == 0
    assert len(list(folder.iterdir())) > 1


def test_a_folder_that_cannot_be_made(checkpoint: Path, capsys: Any) -> None:
    message = refused(capsys, "--checkpoint", checkpoint, "--output", checkpoint / "out")
    assert "cannot be made" in message


def test_a_version_without_a_saved_model_is_left_to_its_engine(tmp_path: Path) -> None:
    from segkit.commands.eval_target import find_version

    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "segkit.json").write_text("{}")
    assert find_version(tmp_path) == tmp_path
