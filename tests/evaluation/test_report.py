from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from segkit.evaluation.class_bars import write_class_bars
from segkit.evaluation.measure import InferenceTime
from segkit.evaluation.report import Report, WireReport
from segkit.evaluation.scores import RULE, Scores
from segkit.labels import LabelMap

TRUTH = np.array([[0, 0, 1, 1, 255]], np.uint8)


def scores(prediction: list[int]) -> Scores:
    return Scores.of("street", TRUTH, np.array([prediction], np.uint8), num_classes=3)


def report(labels: LabelMap) -> Report:
    time = InferenceTime(
        images=50, warm_up=5, mean_ms=12.5, p50_ms=12.0, p90_ms=15.0, p99_ms=20.0, device="a chip"
    )
    wire = WireReport(quality=85, scores=scores([0, 0, 0, 1, 0]), raw_bytes=1000, jpeg_bytes=250.0)
    return Report(
        subject="checkpoint x",
        how="resized to 8x8",
        split="val",
        labels=labels,
        scores=scores([0, 0, 1, 1, 0]),
        time=time,
        wire=wire,
    )


def test_the_table_has_a_line_for_every_class_and_their_mean(labels: LabelMap) -> None:
    lines = report(labels).to_text().splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows["background"] == ["1.000", "1.000", "1.000", "1.000", "1.000", "2"]
    assert rows["car"] == ["-", "-", "-", "-", "-", "0"]  # in neither truth nor prediction
    assert rows["mean"][0] == "1.000"
    assert rows["mean"][-1] == "4"
    table = [line for line in lines if line.split()[:1] in (["class"], ["road"], ["mean"])]
    assert len({len(line) for line in table}) == 1  # aligned


def test_the_text_says_rule_time_and_cost(labels: LabelMap) -> None:
    text = report(labels).to_text()
    assert "1 val images at the size of their labels; resized to 8x8" in text
    assert f"mean_iou 1.0000 over 2 of 3 classes; {RULE}" in text
    assert "inference 12.5 ms on average, p50 12.0, p90 15.0, p99 20.0" in text
    assert "50 images one at a time after 5, a chip" in text
    assert "worst images: street 1.000" in text


def test_the_wire_table_gives_both_the_difference_and_the_bytes(labels: LabelMap) -> None:
    rows = {
        line.split()[0]: line.split()[1:] for line in report(labels).to_text().splitlines() if line
    }
    assert rows["raw"][:2] == ["1.0000", "1.0000"]
    assert rows["raw"][-1] == "1,000"
    assert rows["jpeg:85"][:2] == ["0.5833", "0.7500"]  # (2/3 + 1/2) / 2
    assert rows["jpeg:85"][-1] == "250"
    assert rows["difference"][:2] == ["-0.4167", "-0.2500"]
    assert rows["difference"][-2:] == ["25.0", "%"]


def test_the_record_is_json_with_null_for_what_has_no_value(labels: LabelMap) -> None:
    record = json.loads(json.dumps(report(labels).to_json(), allow_nan=False))
    assert record["summary"]["mean_iou"] == 1
    assert record["rule"] == RULE
    assert [row["class"] for row in record["classes"]] == list(labels.names)
    assert record["classes"][2]["iou"] is None
    assert record["confusion_matrix"] == [[2, 0, 0], [0, 2, 0], [0, 0, 0]]
    assert record["images"] == [{"stem": "street", "mean_iou": 1.0}]
    assert record["inference_time"]["p99_ms"] == 20
    assert record["wire"]["jpeg_bytes"] == 250
    assert record["wire"]["summary"]["pixel_accuracy"] == 0.75


def test_bars_are_drawn_though_a_class_is_absent(labels: LabelMap, tmp_path: Path) -> None:
    path = tmp_path / "class_iou.png"
    write_class_bars(path, scores([0, 0, 1, 0, 0]), labels)
    picture = cv2.imread(str(path))
    # Rows of blue, the colour of BAR, by their length: 2/3 and 1/2 of the axis, none
    # for the third.
    lengths = (picture == (0xB0, 0x6F, 0x2F)).all(-1).sum(axis=1)
    bars = [length for length in np.unique(lengths[lengths > 100]) if (lengths == length).sum() > 3]
    assert max(bars) / min(bars) == pytest.approx(4 / 3, rel=0.05)
    assert [file.name for file in tmp_path.iterdir()] == ["class_iou.png"]
