from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from published_ddrnet import SIZES, assert_as_published, tensors_and_images
from tiny_streets import write_streets

from segkit.__main__ import main
from segkit.labels import LabelMap
from segkit.models import build_model, torch_weights
from segkit.models.checkpoints import load_checkpoint, read_record

REPOSITORY = Path(__file__).resolve().parents[2]
Tensors = dict[str, np.ndarray]


@pytest.fixture
def tensors() -> Tensors:
    return tensors_and_images()[0]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "made" / "W.h5"


@pytest.fixture
def convert(output: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command on tensors that stand for a file; so far torch is not needed."""

    def run(tensors: Tensors, *flags: str) -> int:
        monkeypatch.setattr(torch_weights, "load_torch_file", lambda path: tensors)
        argv = ["import-torch", "x.pth", "--output", str(output), "--image_size", "64", "96"]
        return main([*argv, *flags])

    return run


def as_imagenet(tensors: Tensors) -> Tensors:
    """The names of the authors' classification network, in DataParallel."""
    backbone = {
        f"module.{name}": value
        for name, value in tensors.items()
        if not name.startswith(("spp.", "final_layer.", "seghead_extra."))
    }
    extra = {
        "module.down5.0.weight": np.ones((8, 8, 3, 3), np.float32),
        "module.last_layer.0.weight": np.ones((8, 8, 1, 1), np.float32),
        "module.linear.weight": np.ones((1000, 8), np.float32),
        "module.linear.bias": np.ones(1000, np.float32),
    }
    return backbone | extra


# === A whole network ===


def test_the_authors_file_becomes_a_checkpoint_that_answers_as_published(
    output: Path, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra segkit[torch]")
    path = tmp_path / "best_val.pth"
    tensors = {name: torch.from_numpy(value) for name, value in tensors_and_images()[0].items()}
    tensors["conv1.1.num_batches_tracked"] = torch.tensor(484000)
    wrapped = {f"model.{name}": tensor for name, tensor in tensors.items()}
    torch.save(wrapped | {"loss.criterion.weight": torch.ones(19)}, path)
    assert main(["import-torch", str(path), "--output", str(output)]) == 0
    for size in SIZES:
        inference, record = load_checkpoint(output, image_size=size)
        assert_as_published(inference, "final_layer")
        training = build_model(record.network, size, record.labels.num_classes, auxiliary=True)
        training.load_weights(output)
        assert_as_published(training, "final_layer")
        assert_as_published(training, "seghead_extra")


def test_the_record_says_what_the_file_told(
    convert: Any, tensors: Tensors, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(tensors) == 0
    record = read_record(output)
    assert (record.network, record.image_size) == ("ddrnet23_slim", (64, 96))
    assert record.labels.names == tuple(f"class_{index}" for index in range(19))
    assert (record.auxiliary, record.precision, record.val_mean_iou) == (True, "float32", None)
    assert (record.epoch, record.step) == (0, 0)
    printed = capsys.readouterr().out
    assert "289 tensors fit" in printed and "only in" not in printed
    assert "class_0, class_1 .. class_18), with the auxiliary head" in printed
    assert "--labelmap FILE" in printed
    assert f"next: python -m segkit export --checkpoint {output}" in printed
    assert [child.name for child in output.parent.iterdir()] == ["W.h5"]


@pytest.mark.slow
def test_a_checkpoint_of_it_is_published_by_export(
    convert: Any, tensors: Tensors, output: Path, tmp_path: Path
) -> None:
    assert convert(tensors) == 0
    base_path = tmp_path / "exports"
    write_streets(tmp_path / "streets")
    data = f"images:{tmp_path / 'streets' / 'images'}"
    flags = ("--checkpoint", str(output), "--model_base_path", str(base_path), "--data", data)
    assert main(["export", *flags]) == 0
    assert (base_path / "1" / "saved_model.pb").is_file()


def test_the_head_may_have_other_classes_and_no_auxiliary(
    convert: Any, tensors: Tensors, output: Path, tmp_path: Path
) -> None:
    for name in list(tensors):
        if name.startswith("seghead_extra."):
            del tensors[name]
    for part in ("weight", "bias"):
        tensors[f"final_layer.conv2.{part}"] = tensors[f"final_layer.conv2.{part}"][:2]
    labelmap = tmp_path / "labelmap.txt"
    labelmap.write_text("road:128,64,128::\nbackground:0,0,0::\n")
    assert convert(tensors, "--labelmap", str(labelmap)) == 0
    model, record = load_checkpoint(output)
    assert record.labels == LabelMap.load(labelmap.read_text()) and not record.auxiliary
    assert model.output_shape == (None, 64, 96, 2)


# === A part of a network ===


def test_imagenet_weights_are_refused_unless_asked_for(
    convert: Any, tensors: Tensors, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(as_imagenet(tensors)) == 1
    printed = capsys.readouterr()
    assert re.search(r"only in the network: 66\n +spp +55 +spp\.", printed.out)
    assert re.search(r"only in the file, not used: 4\n +down5 +1 ", printed.out)
    assert re.search(r"linear +2 +linear.weight \(1000, 8\) \.\.\.", printed.out)
    assert "would stay random" in printed.err and "--allow_partial" in printed.err
    assert not output.exists()


def test_imagenet_weights_start_a_training(
    convert: Any, tensors: Tensors, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--allow_partial", "--labelmap", str(labels_of(output)))
    assert convert(as_imagenet(tensors), *flags) == 0
    printed = capsys.readouterr().out
    assert "training starts final_layer, spp from random weights" in printed
    assert f"python train.py --network ddrnet23_slim --weights {output}" in printed
    assert "was not used" in printed
    model = build_model("ddrnet23_slim", (64, 64), 3, auxiliary=True, weights=output)
    np.testing.assert_array_equal(
        model.get_layer("layer5.0.conv1").kernel,
        tensors["layer5.0.conv1.weight"].transpose(2, 3, 1, 0),
    )
    assert main(["export", "--checkpoint", str(output)]) == 1
    assert "not a checkpoint of segkit" in capsys.readouterr().err


def labels_of(output: Path) -> Path:
    path = output.parent.parent / "labelmap.txt"
    path.write_text("road:128,64,128::\n")
    return path


def test_a_damaged_backbone_is_refused_whatever_is_asked(
    convert: Any, tensors: Tensors, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del tensors["layer3_.1.bn2.running_var"]
    assert convert(tensors, "--allow_partial") == 1
    printed = capsys.readouterr()
    assert "layer3_.1.bn2.running_var (64,)" in printed.out
    assert "'layer3_.1.bn2.running_var' would be" in printed.err
    assert not output.exists()


def test_verbose_lists_every_tensor(
    convert: Any, tensors: Tensors, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors["conv1.0.bias"] = np.ones(64, np.float32)
    assert convert(as_imagenet(tensors), "--verbose") == 1
    printed = capsys.readouterr().out
    lacking = [name for name in tensors if name.startswith(("spp.", "final_layer."))]
    assert all(f"  {name} (" in printed for name in lacking)
    assert "of another shape: 1\n  conv1.0.bias (64,) in the file, (32,) here" in printed


# === What a user can get wrong ===


def test_an_output_that_exists_is_kept(
    convert: Any, tensors: Tensors, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output.parent.mkdir()
    output.write_text("precious")
    assert convert(tensors) == 1
    assert "add --overwrite" in capsys.readouterr().err
    assert output.read_text() == "precious"
    assert convert(tensors, "--overwrite") == 0
    assert h5py.is_hdf5(output)


def test_a_folder_as_output_and_another_suffix_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.h5").mkdir()
    assert main(["import-torch", "x.pth", "--output", str(tmp_path / "folder.h5")]) == 1
    assert "is a folder" in capsys.readouterr().err
    assert main(["import-torch", "x.pth", "--output", str(tmp_path / "W.keras")]) == 1
    assert "ends in .h5" in capsys.readouterr().err


def test_other_networks_have_no_torch_weights(
    convert: Any, tensors: Tensors, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(tensors, "--model", "mobilenetv3_deeplabv3plus") == 1
    assert "tf.keras.applications" in capsys.readouterr().err
    assert convert(tensors, "--model", "ddrnet23") == 1
    assert "perhaps 'ddrnet23_slim'" in capsys.readouterr().err


def test_a_labelmap_of_other_classes_is_refused(
    convert: Any, tensors: Tensors, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(tensors, "--labelmap", str(labels_of(output))) == 1
    assert "has 1 class, the head of 'x.pth' 19" in capsys.readouterr().err
    assert convert(tensors, "--labelmap", str(output)) == 1
    assert "--labelmap" in capsys.readouterr().err
    assert not output.exists()


def test_an_output_that_cannot_be_written_is_one_message(
    convert: Any, tensors: Tensors, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output.parent.write_text("a file where the folder should be")
    assert convert(tensors) == 1
    assert f"'{output}' cannot be written" in capsys.readouterr().err


def test_the_guide_names_the_classes_of_cityscapes() -> None:
    guide = (REPOSITORY / "docs" / "import-torch.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ +(.+:\d+,\d+,\d+::)$", guide, re.MULTILINE)
    labels = LabelMap.load("\n".join(lines))
    assert (labels.num_classes, labels.names[0], labels.names[18]) == (19, "road", "bicycle")


def test_no_file_is_one_message(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import-torch", "absent.pth", "--output", str(output)]) == 1
    assert "'absent.pth' does not exist" in capsys.readouterr().err
    assert not output.parent.exists()
