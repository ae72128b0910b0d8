from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from tensorrt_stand_in import install_stand_in
from tiny_checkpoints import add_tiny_network, save_tiny_checkpoint
from tiny_streets import write_streets

from segkit.__main__ import main
from segkit.errors import ExportError
from segkit.export import tensorrt_preflight
from segkit.labels import LabelMap


@pytest.fixture
def flags(labels: LabelMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    add_tiny_network(monkeypatch)
    checkpoint = save_tiny_checkpoint(tmp_path / "best.h5", labels, (64, 96))
    data = write_streets(tmp_path / "streets")
    words = ["benchmark-export", "--checkpoint", str(checkpoint), "--data", data]
    return [*words, "--repeats", "3", "--output", str(tmp_path / "report")]


def test_every_form_has_a_line_for_each_batch_size(
    flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("segkit.engines.cpu.computes_bfloat16", lambda: False)
    names = ("tensorflow", "openvino", "openvino:bfloat16")
    assert main([*flags, "--format", *names, "--batch_sizes", "1", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("format"))
    assert [line.split()[0] for line in lines[start + 1 : start + 8] if line.strip()] == [
        "keras",
        "2",  # batch size
        "tensorflow:float32",
        "2",
        "openvino:float32",
        "2",
        "openvino:bfloat16",
    ]
    assert "skipped  openvino:bfloat16 cannot be run here" in lines[start + 7]

    record = json.loads((tmp_path / "report" / "benchmark.json").read_text())
    keras, tensorflow, openvino, skipped = record["rows"]
    assert record["images"] == 4
    for row in (keras, tensorflow, openvino):
        assert row["status"] == "ok" and row["agreement"] > 0.9999 and row["size_bytes"] > 0
        assert row["mean_iou"] == pytest.approx(keras["mean_iou"], abs=1e-3)
        assert [latency["batch_size"] for latency in row["latencies"]] == [1, 2]
        for latency in row["latencies"]:
            speed = 1e3 * latency["batch_size"] / latency["p50_ms"]
            assert latency["images_per_second"] == pytest.approx(speed)
    assert skipped["status"] == "skipped" and "bfloat16" in skipped["reason"]
    picture = cv2.imread(str(tmp_path / "report" / "benchmark.png"))
    assert picture.shape[1] == 990


def test_a_form_that_cannot_be_exported_fails_alone(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ExportError("the converter gave up")

    monkeypatch.setattr("segkit.export.openvino.write_openvino", fail)
    assert main([*flags, "--format", "openvino"]) == 0
    keras, failed = json.loads((tmp_path / "report" / "benchmark.json").read_text())["rows"]
    assert keras["status"] == "ok"
    assert (failed["status"], failed["reason"]) == ("failed", "the converter gave up")


def test_tensorrt_is_skipped_where_it_is_not(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tensorrt_preflight.Preflight(missing=("TensorFlow sees no GPU",))
    monkeypatch.setattr(tensorrt_preflight, "preflight", lambda: found)
    assert main([*flags, "--format", "tensorrt"]) == 0
    _, skipped = json.loads((tmp_path / "report" / "benchmark.json").read_text())["rows"]
    assert (skipped["format"], skipped["status"]) == ("tensorrt:float16", "skipped")
    assert skipped["reason"] == "TensorFlow sees no GPU"


def test_tensorrt_is_converted_where_it_is(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_stand_in(monkeypatch)
    assert main([*flags, "--format", "tensorrt"]) == 0
    _, converted = json.loads((tmp_path / "report" / "benchmark.json").read_text())["rows"]
    assert (converted["status"], converted["reason"]) == ("ok", "")
    assert converted["agreement"] > 0.999 and len(converted["latencies"]) == 1


def test_a_report_is_not_overwritten(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "benchmark.json").write_text("{}")
    assert main(flags) == 1
    assert "benchmark.json' exists" in capsys.readouterr().err
    assert (tmp_path / "report" / "benchmark.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--repeats", "0"), "--repeats is 0"),
        (("--format", "caffe"), "no engine 'caffe'"),
        (("--batch_sizes", "0"), "--batch_sizes is 0"),
    ],
)
def test_mistakes_are_named(
    flags: list[str], capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str
) -> None:
    assert main([*flags, *more]) == 1
    assert words in capsys.readouterr().err
