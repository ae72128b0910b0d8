from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from segkit import engines, export
from segkit.__main__ import main
from segkit.commands.profile import render
from segkit.engines import variants
from segkit.engines.variants import Variant
from segkit.errors import ConfigError
from segkit.evaluation.profile import Activations, Macs, Parameters, Profile
from segkit.export import formats
from segkit.labels import LabelMap
from segkit.models import build_model
from segkit.models.checkpoints import CheckpointRecord, save_checkpoint

SMALL = ("--model", "ddrnet23_slim", "--image_size", "64", "96", "--num_classes", "3")
COUNT_ONLY = (*SMALL, "--latency", "false")


def test_text_and_json_say_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    flags = ("--batch_sizes", "1", "2", "--repeats", "3", "--json", str(path))
    assert main(["profile", *SMALL, *flags]) == 0
    text = capsys.readouterr().out
    record = json.loads(path.read_text(encoding="utf-8"))

    assert "ddrnet23_slim, 64x96, 3 classes, resize bilinear, float32" in text
    parameters = record["parameters"]
    assert f"{parameters['trainable']:,} trainable, {parameters['non_trainable']:,}" in text
    assert f"{record['activations']['peak_bytes'] / 2**20:.1f} MiB" in text
    rows = [(row["engine"], row["batch_size"]) for row in record["latencies"]]
    names = ("keras", "tensorflow:float32")
    assert rows == [(name, batch_size) for batch_size in (1, 2) for name in names]
    for row in record["latencies"]:
        assert row["repeats"] == 3 and row["device"] in text
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert f"{row['p50_ms']:.1f}" in text
    assert "measuring keras, tensorflow:float32, batch size 2\n" in text
    assert [file.name for file in tmp_path.iterdir()] == ["profile.json"]


def test_json_on_standard_output_is_nothing_but_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", *COUNT_ONLY, "--resize", "matmul", "--json", "-"]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record["resize"] == "matmul" and record["macs"]["matmul"] > 0
    assert record["latencies"] == []
    assert "building ddrnet23_slim" in captured.err


def test_a_checkpoint_has_its_own_size_and_classes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    labels = LabelMap.from_names(["background", "road"])
    record = CheckpointRecord(
        network="ddrnet23_slim",
        image_size=(64, 128),
        labels=labels,
        auxiliary=True,
        precision="float32",
        epoch=1,
        step=1,
        val_mean_iou=None,
    )
    model = build_model("ddrnet23_slim", (64, 128), labels.num_classes, auxiliary=True)
    save_checkpoint(model, record, tmp_path / "best.h5")
    flags = ("--checkpoint", str(tmp_path / "best.h5"), "--latency", "false")
    assert main(["profile", *flags]) == 0
    assert "ddrnet23_slim, 64x128, 2 classes" in capsys.readouterr().out


class Fake:
    """An engine that came after this command was written."""

    closed: ClassVar[list[bool]] = []

    def __init__(self, version_dir: Path, variant: Variant) -> None:
        assert (version_dir / "saved_model.pb").is_file()

    def run(self, signature: str, inputs: Any) -> None:
        assert signature == "serving_default" and inputs["image"].shape == (1, 64, 96, 3)

    def close(self) -> None:
        self.closed.append(True)


class Broken:
    """An engine whose library is not installed."""

    def __init__(self, version_dir: Path, variant: Variant) -> None:
        raise ConfigError("no such library")


def test_a_new_engine_shows_up_by_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_export: Path
) -> None:
    monkeypatch.setattr(export, "publish", lambda *_: tiny_export / "1")  # of the same size
    monkeypatch.setitem(sys.modules, "an_engine", sys.modules[__name__])
    monkeypatch.setitem(engines.ENGINES, "fake", "an_engine:Fake")
    monkeypatch.setitem(engines.ENGINES, "broken", "an_engine:Broken")
    known = dict.fromkeys(("tensorflow", "fake", "broken"), ("float32",))
    monkeypatch.setattr(variants, "PRECISIONS", known)
    for name in ("fake", "broken"):
        monkeypatch.setitem(formats._PATHS, name, "")
    flags = ("--engine", "all", "--repeats", "1", "--json", "-")
    assert main(["profile", *SMALL, *flags]) == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)["latencies"]
    assert [row["engine"] for row in rows] == ["keras", "tensorflow:float32", "fake:float32"]
    assert "broken:float32 is left out: no such library" in captured.err
    assert Fake.closed == [True]

    assert main(["profile", *SMALL, "--engine", "broken"]) == 1
    assert "no such library" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), ("neither --model nor --checkpoint", "exactly one")),
        ((*COUNT_ONLY, "--checkpoint", "x"), ("both --model and --checkpoint", "exactly one")),
        (("--checkpoint", "x", "--num_classes", "3"), ("--num_classes", "leave")),
        (("--checkpoint", "/nowhere"), ("no checkpoint '/nowhere'",)),
        (("--model", "ddrnet23"), ("no network 'ddrnet23'", "ddrnet23_slim")),
        (("--model", "ddrnet23_slim", "--image_size", "0", "96"), ("image size 0 96", "32")),
        ((*SMALL, "--batch_sizes", "1", "0"), ("--batch_sizes is 1 0", "1 or more")),
        ((*SMALL, "--repeats", "0"), ("--repeats is 0", "1 or more")),
        (("--model", "ddrnet23_slim", "--num_classes", "0"), ("--num_classes is 0",)),
        ((*SMALL, "--engine", "openvina"), ("no engine 'openvina'", "one of tensorflow, openvino")),
    ],
)
def test_mistakes_are_named(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert main(["profile", *flags]) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


@pytest.mark.parametrize("where", ["absent/profile.json", "", "/proc/profile.json"])
def test_a_file_that_cannot_be_written_is_named_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, where: str
) -> None:
    flags = ("--json", str(tmp_path / where), "--overwrite")
    assert main(["profile", *COUNT_ONLY, *flags]) == 1
    captured = capsys.readouterr()
    assert "cannot be written" in captured.err and "building" not in captured.out


def test_a_file_is_not_overwritten_silently(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "profile.json"
    path.write_text("precious")
    assert main(["profile", *COUNT_ONLY, "--json", str(path)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert path.read_text() == "precious"
    assert main(["profile", *COUNT_ONLY, "--json", str(path), "--overwrite"]) == 0
    assert json.loads(path.read_text())["network"] == "ddrnet23_slim"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, " 0 G"), (274_321_000, " 0.274 G"), (36_283_000_000, " 36.3 G"), (10**12, " 1000 G")],
)
def test_macs_have_three_digits_for_people(count: int, text: str) -> None:
    profile = Profile(
        network="net",
        image_size=(64, 96),
        num_classes=3,
        precision="float32",
        parameters=Parameters(trainable=1, non_trainable=0),
        macs=Macs(convolution=count, depthwise=0, matmul=0),
        activations=Activations(peak_bytes=0, sum_bytes=0),
        uncounted={"Relu": 1},
    )
    assert text in render(profile, "bilinear")
