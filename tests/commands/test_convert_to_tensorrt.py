from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorrt_stand_in import MACHINE, StandIn, install_stand_in, lose_the_engines
from tiny_checkpoints import NAME, add_tiny_network, save_tiny_checkpoint
from tiny_sets import jpeg, write

from segkit import contract
from segkit.__main__ import main
from segkit.commands.convert_container import container_command
from segkit.commands.convert_to_tensorrt import Options
from segkit.contract import Metadata
from segkit.engines.base import read_metadata
from segkit.engines.variants import read_variants
from segkit.export import publish, tensorrt_preflight
from segkit.export.tensorrt_preflight import Preflight
from segkit.labels import LabelMap
from segkit.models.checkpoints import digest, load_checkpoint

IMAGE_SIZE = (64, 96)
MISSING = Preflight(missing=("libnvinfer.so.8.6.1 is not found (no)", "TensorFlow sees no GPU"))


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
    """A folder with one published version."""
    model, _ = load_checkpoint(checkpoint)
    metadata = Metadata(
        labels=labels,
        image_size=IMAGE_SIZE,
        architecture=NAME,
        normalization="RGB / 64 - 2",
        source=digest(checkpoint),
    )
    return publish(model, metadata, tmp_path_factory.mktemp("exports")).parent


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    files = {f"{index}.jpg": jpeg(index, IMAGE_SIZE) for index in range(5)}
    return f"images:{write(tmp_path_factory.mktemp('images'), files)}"


@pytest.fixture
def gpu_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    install_stand_in(monkeypatch)


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_preflight, "preflight", lambda: MISSING)


def convert(*flags: Any) -> int:
    return main(["convert-to-tensorrt", *map(str, flags)])


# === Without TensorRT ===


@pytest.mark.usefixtures("bare_machine")
def test_a_dry_run_says_what_is_missing_and_predicts(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--input_saved_model_dir", exported, "--output_saved_model_dir", tmp_path / "trt")
    assert convert(*flags, "--dry_run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "preflight: this machine cannot convert",
        *(f"  {sentence}" for sentence in MISSING.missing),
    ]
    assert f"version {exported}/1: tiny, 64x96: 1 TensorRT engine predicted" in lines
    assert lines[-1] == "nothing was converted (--dry_run)"
    assert not (tmp_path / "trt").exists()


@pytest.mark.usefixtures("bare_machine")
def test_without_tensorrt_it_predicts_and_names_the_container(
    exported: Path, tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--input_saved_model_dir", exported, "--output_saved_model_dir", tmp_path / "trt")
    assert convert(*flags, "--floating_mode", "FP32", "--data", images) == 1
    captured = capsys.readouterr()
    assert "1 TensorRT engine predicted" in captured.out
    assert all(sentence in captured.err for sentence in MISSING.missing)
    assert "has to be the one that built it" in captured.err
    assert 'docker compose run --rm --user "$(id -u):$(id -g)" --volume' in captured.err
    assert f"--data images:/mnt{images.removeprefix('images:')}" in captured.err
    assert not (tmp_path / "trt").exists()


def test_the_dry_run_of_this_machine_ends_well(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert("--checkpoint", checkpoint, "--image_size", 32, 64, "--dry_run") == 0
    text = capsys.readouterr().out
    assert text.startswith("preflight: ")
    assert f"checkpoint {checkpoint}: tiny, 32x64: 1 TensorRT engine predicted" in text


# === With the stand-in ===


@pytest.mark.usefixtures("gpu_machine")
def test_a_version_is_converted_proved_and_published(
    exported: Path, tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "trt"
    flags = ("--input_saved_model_dir", exported / "1", "--output_saved_model_dir", target)
    assert convert(*flags, "--batch_sizes", 2, 1, "--data", images, "--workspace_mib", 64) == 0
    text = capsys.readouterr().out
    assert text.startswith("preflight: TensorRT 8.6.1, CUDA 12.2")
    assert text.index("1 TensorRT engine predicted") < text.index("1 TensorRT engine built; ")
    assert f"TensorRT FP16 held to Keras model of version {exported}/1: 5 images" in text
    assert f"published {target}/1: it runs on NVIDIA Stand-In (compute capability 8.6)" in text
    assert f"MODEL_BASE_PATH={target} docker compose up serving" in text
    assert [child.name for child in target.iterdir()] == ["1"]
    assert [len(batch) for (batch,) in StandIn.last.fed] == [1, 2]
    assert StandIn.last.made_with["max_workspace_size_bytes"] == 64 * 2**20
    (variant,) = read_variants(target / "1")
    assert variant.proof["passed"] is True


@pytest.mark.usefixtures("gpu_machine")
def test_the_version_says_what_its_engines_are_tied_to(
    exported: Path, tmp_path: Path, images: str
) -> None:
    flags = ("--input_saved_model_dir", exported, "--output_saved_model_dir", tmp_path)
    assert convert(*flags, "--batch_sizes", 1, 2, "--data", images) == 0
    metadata, origin = read_metadata(tmp_path / "1"), read_metadata(exported / "1")
    assert metadata is not None and origin is not None
    assert metadata.precision == "float16"
    assert metadata.batch_sizes == (1, 2)
    assert metadata.source == origin.source
    tied = dict(metadata.tensorrt)
    assert tied.pop("converted_from_digest").startswith("sha256:")
    assert tied == {
        **MACHINE,
        "precision": "FP16",
        "profiles": "Range+Optimal: batch 1, 2; 1 to 2; at 64x96",
        "engines": "1",
        "converted_from": f"version {exported}/1",
    }
    assert metadata.created > origin.created
    assert {"tensorflow", "segkit"} <= metadata.versions.keys()


@pytest.mark.usefixtures("gpu_machine")
def test_a_checkpoint_becomes_int8(
    checkpoint: Path, tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--checkpoint", checkpoint, "--output_saved_model_dir", tmp_path, "--data", images)
    int8 = ("--floating_mode", "INT8", "--calibration", images, "--num_calibration_images", 4)
    assert convert(*flags, *int8, "--batch_sizes", 1, 2) == 0
    assert "TensorRT INT8 held to Keras model of checkpoint" in capsys.readouterr().out
    assert [batch.shape for (batch,) in StandIn.last.calibrated_with] == [(2, 64, 96, 3)] * 2
    assert json.loads((tmp_path / "1" / contract.METADATA_FILE).read_text())["precision"] == "int8"


@pytest.mark.usefixtures("gpu_machine")
def test_a_conversion_beyond_the_thresholds_is_not_published(
    exported: Path,
    tmp_path: Path,
    images: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        "segkit.export.served._class_ids",
        lambda logits: tf.cast(tf.argmin(logits, axis=-1), tf.uint8),
    )
    flags = ("--input_saved_model_dir", exported, "--output_saved_model_dir", tmp_path / "trt")
    assert convert(*flags, "--batch_sizes", 1, "--data", images) == 1
    captured = capsys.readouterr()
    assert "FAILED" in captured.out and "published" not in captured.out
    assert "the engines do not answer as version" in captured.err
    assert "--min_agreement" in captured.err and "--floating_mode" in captured.err
    assert list((tmp_path / "trt").iterdir()) == []


@pytest.mark.usefixtures("gpu_machine")
def test_engines_that_were_not_built_are_not_published(
    exported: Path,
    tmp_path: Path,
    images: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lose_the_engines(monkeypatch)
    flags = ("--input_saved_model_dir", exported, "--output_saved_model_dir", tmp_path / "trt")
    assert convert(*flags, "--batch_sizes", 1, "--data", images) == 1
    assert "TensorRT built 0 of 1 engines" in capsys.readouterr().err
    assert list((tmp_path / "trt").iterdir()) == []


@pytest.mark.usefixtures("gpu_machine")
def test_real_images_are_asked_for_before_anything_is_done(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--input_saved_model_dir", exported, "--output_saved_model_dir", tmp_path / "trt")
    assert convert(*flags) == 1
    captured = capsys.readouterr()
    assert "--data is not given" in captured.err
    assert "predicted" not in captured.out
    assert not (tmp_path / "trt").exists()


# === Flags ===


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--floating_mode", "INT8"), ("--calibration is not given", "images:FOLDER")),
        (("--calibration", "images:x"), ("--floating_mode is FP16", "INT8 alone")),
        (("--batch_sizes", "2", "4"), ("--batch_sizes is 2 4", "1 among them")),
        (("--batch_sizes", "1", "1"), ("--batch_sizes is 1 1", "different")),
        (("--minimum_segment_size", "0"), ("--minimum_segment_size is 0", "1 or more")),
        (("--workspace_mib", "0"), ("--workspace_mib is 0", "1 or more")),
        (("--num_calibration_images", "0"), ("--num_calibration_images is 0", "1 or more")),
        (
            ("--checkpoint", "a", "--input_saved_model_dir", "b"),
            ("both --input_saved_model_dir and --checkpoint", "one of them"),
        ),
        (("--min_agreement", "2"), ("--min_agreement is 2", "0 to 1")),
        (("--dry_run", "--input_saved_model_dir", "/nowhere"), ("no folder '/nowhere'", "export")),
        (("--dry_run", "--checkpoint", "/nowhere.h5"), ("no checkpoint '/nowhere.h5'",)),
    ],
)
def test_mistakes_are_named(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert convert(*flags) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


def test_an_unknown_precision_is_a_wrong_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        convert("--floating_mode", "FP8")
    assert caught.value.code == 2
    assert "FP32" in capsys.readouterr().err


# === The command for the container ===


def words(options: Options) -> list[str]:
    command = container_command(options)
    start = 'docker compose run --rm --user "$(id -u):$(id -g)" '
    assert command.startswith(start)
    return shlex.split(command.removeprefix(start))


def test_what_is_below_checkpoints_is_at_the_same_place_in_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = Options(
        checkpoint=tmp_path / "checkpoints/1120/run 1",
        image_size=(480, 640),
        floating_mode="FP32",
        batch_sizes=[1, 2],
        dry_run=True,
    )
    assert words(options) == [
        "convert",
        *("--data", "KIND:PATH"),
        *("--image_size", "480", "640"),
        *("--checkpoint", "checkpoints/1120/run 1"),
        *("--floating_mode", "FP32"),
        *("--batch_sizes", "1", "2"),
    ]


def test_what_is_elsewhere_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = Options(
        input_saved_model_dir=Path("/srv/models/3"),
        floating_mode="INT8",
        calibration="images:../drive.mp4",
        data="camvid:/srv/camvid",
    )
    assert words(options) == [
        *("--volume", "/srv/camvid:/mnt/srv/camvid:ro"),
        *("--volume", "/srv/models/3:/mnt/srv/models/3:ro"),
        *("--volume", f"{tmp_path.parent}/drive.mp4:/mnt{tmp_path.parent}/drive.mp4:ro"),
        "convert",
        *("--data", "camvid:/mnt/srv/camvid"),
        *("--input_saved_model_dir", "/mnt/srv/models/3"),
        *("--floating_mode", "INT8"),
        *("--calibration", f"images:/mnt{tmp_path.parent}/drive.mp4"),
    ]


def test_an_output_elsewhere_is_made_and_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = container_command(Options(output_saved_model_dir=Path("/srv/trt")))
    assert command.startswith("mkdir -p /srv/trt && docker compose run ")
    assert " --volume /srv/trt:/mnt/srv/trt convert " in command


def test_the_data_set_of_a_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In there nobody knows it: the run's configuration names a folder of this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "segkit.commands.convert_container.data_of_run", lambda run: "full_semantic:/srv/tfds/x"
    )
    found = words(Options(checkpoint=Path("checkpoints/1120/run_1")))
    assert found[:2] == ["--volume", "/srv/tfds/x:/mnt/srv/tfds/x:ro"]
    assert found[found.index("--data") + 1] == "full_semantic:/mnt/srv/tfds/x"
