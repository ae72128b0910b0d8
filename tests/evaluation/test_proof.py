from __future__ import annotations

import json
from typing import Any

import numpy as np

from segkit.evaluation.proof import Contestant, Proof, Thresholds, prove
from segkit.evaluation.real_images import RealImage, RealImages
from segkit.labels import LabelMap

LABELS = LabelMap.from_names(("background", "road"))
TRUTH = np.repeat(np.array([[0, 1]], np.uint8), 50, axis=0)  # 100 pixels


class Off:
    """Answers the truth but for the first pixels."""

    def __init__(self, wrong: int) -> None:
        self.labels = LABELS
        self.image_size: tuple[int, int] | None = TRUTH.shape
        self.mask = TRUTH.copy()
        self.mask.flat[:wrong] ^= 1

    def predict(self, image: Any, size: tuple[int, int]) -> np.ndarray:
        return self.mask


def proof(wrong: int, *, labeled: bool = True, **thresholds: float) -> Proof:
    street = RealImage(
        stem="street", image=np.zeros((*TRUTH.shape, 3), np.uint8), truth=TRUTH if labeled else None
    )
    return prove(
        Contestant(name="checkpoint x.h5", predictor=Off(0), device="a", size_bytes=2_000_000),
        Contestant(name="openvino:int8", predictor=Off(wrong), device="b"),
        RealImages(source="cvat:streets", images=(street,)),
        thresholds=Thresholds(**thresholds),
        repeats=3,
    )


def test_what_is_within_the_thresholds_passes() -> None:
    found = proof(1, max_miou_drop=0.03)
    assert found.failures == ()
    text = found.render()
    for words in (
        "openvino:int8 held to checkpoint x.h5: 1 images of cvat:streets",
        "same class         99.000% of the pixels",
        "mean_iou           1.0000 -> 0.98",
        "size               2.0 MB -> unknown",
        "  passed",
    ):
        assert words in text


def test_too_few_pixels_of_the_same_class_fail() -> None:
    found = proof(3, labeled=False)
    assert found.failures == (
        "the same class on 97.00% of the pixels, less than 99.00% (--min_agreement)",
    )
    assert "FAILED" in found.render()


def test_a_lower_score_fails_on_its_own() -> None:
    (failure,) = proof(3, min_agreement=0.9).failures
    assert failure.startswith("mean_iou is 0.05") and "--max_miou_drop" in failure


def test_a_higher_score_is_no_drop() -> None:
    assert proof(0, max_miou_drop=0.0).failures == ()


def test_json_is_json_and_says_all() -> None:
    record = json.loads(json.dumps(proof(3).to_json(), allow_nan=False))
    assert record["agreement"] == 0.97
    assert record["passed"] is False
    assert [row["device"] for row in record["latency_ms"]] == ["a", "b"]
    assert record["size_bytes"] == [2_000_000, None]
