from __future__ import annotations

import numpy as np
import pytest

from segkit.evaluation.measure import WARM_UP, Example, measure, measure_time
from segkit.evaluation.scores import Scores
from segkit.labels import LabelMap


class Recites:
    """Predicts what the image's first channel says; counts how often it was asked."""

    image_size = None

    def __init__(self, labels: LabelMap) -> None:
        self.labels, self.asked = labels, 0

    def predict(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        self.asked += 1
        assert image.shape[:2] == size
        return image[..., 0]


def examples(count: int = 7) -> list[Example]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        size = (6 + number, 9)
        truth = rng.choice([0, 1, 2, 255], size).astype(np.uint8)
        image = rng.integers(0, 3, (*size, 3), np.uint8)
        made.append(Example(stem=f"{number}", image=image, truth=truth))
    return made


def test_the_scores_of_all_images_add_up_in_order(labels: LabelMap) -> None:
    seen = []
    scores = measure(
        Recites(labels),
        examples(),
        num_classes=3,
        on_image=lambda example, mask, own: seen.append((example.stem, own.images[0].mean_iou)),
    )
    expected = Scores(3)
    for example in examples():
        expected.add(Scores.of(example.stem, example.truth, example.image[..., 0], num_classes=3))
    assert scores.summary() == expected.summary()
    assert scores.images == expected.images
    assert [image.stem for image in scores.images] == list("0123456")
    assert sorted(seen) == [(image.stem, image.mean_iou) for image in scores.images]


def test_the_worst_images_come_first_and_those_without_a_score_not_at_all() -> None:
    scores = Scores(2)
    truth = np.array([[0, 1, 1, 1]], np.uint8)
    for stem, prediction in (("good", [0, 1, 1, 1]), ("bad", [1, 0, 0, 0]), ("fair", [0, 0, 1, 1])):
        prediction = np.array([prediction], np.uint8)
        scores.add(Scores.of(stem, truth, prediction, num_classes=2))
    scores.add(Scores.of("ignored", np.full_like(truth, 255), truth, num_classes=2))
    assert [image.stem for image in scores.worst_images()] == ["bad", "fair", "good"]


def test_time_is_measured_after_the_warm_up(labels: LabelMap) -> None:
    predictor = Recites(labels)
    time = measure_time(predictor, examples(2), images=20, device="here")
    assert predictor.asked == WARM_UP + 20
    assert (time.images, time.warm_up, time.device) == (20, WARM_UP, "here")
    assert 0 < time.p50_ms <= time.p90_ms <= time.p99_ms
    assert time.mean_ms <= time.p99_ms


def test_slow_first_images_do_not_count(labels: LabelMap, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that every prediction moves: by a minute while warming up, then by 2 ms."""
    now = 0.0

    class Slow(Recites):
        def predict(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
            nonlocal now
            now += 60.0 if self.asked < WARM_UP else 0.002
            return super().predict(image, size)

    monkeypatch.setattr("segkit.evaluation.measure.time.perf_counter", lambda: now)
    time = measure_time(Slow(labels), examples(3), images=4, device="here")
    assert time.mean_ms == pytest.approx(2)
    assert time.p99_ms == pytest.approx(2)
