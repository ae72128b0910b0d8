"""The boundary scores against their definitions, pixel by pixel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from segkit.evaluation.boundary import BoundaryF, BoundaryIou

SIZE = (11, 15)
DIAGONAL = math.hypot(*SIZE)


def blobs(seed: int, ids: list[int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask of patches three pixels wide, so that there are contours and insides."""
    rng = np.random.default_rng(seed)
    small = rng.choice(ids, [-(-side // 3) for side in size])
    return small.repeat(3, 0).repeat(3, 1)[: size[0], : size[1]].astype(np.uint8)


def band_by_hand(mask: np.ndarray, truth: np.ndarray, width: int) -> set[tuple[int, int, int]]:
    """(row, column, class) of the pixels that have another class or the outside close by."""
    height, breadth = mask.shape
    band = set()
    for y, x in np.ndindex(mask.shape):
        if truth[y, x] == 255:
            continue
        for dy in range(-width, width + 1):
            for dx in range(-width, width + 1):
                v, u = y + dy, x + dx
                inside = 0 <= v < height and 0 <= u < breadth
                if not inside or (truth[v, u] != 255 and mask[v, u] != mask[y, x]):
                    band.add((y, x, int(mask[y, x])))
    return band


def contour_by_hand(mask: np.ndarray, truth: np.ndarray, id_: int) -> list[tuple[int, int]]:
    height, width = mask.shape
    contour = []
    for y, x in np.ndindex(mask.shape):
        sides = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        near = [mask[v, u] for v, u in sides if 0 <= v < height and 0 <= u < width
                and truth[v, u] != 255]  # fmt: skip
        if truth[y, x] != 255 and mask[y, x] == id_ and any(other != id_ for other in near):
            contour.append((y, x))
    return contour


def f_by_hand(
    truth: np.ndarray, prediction: np.ndarray, id_: int, tolerance: float
) -> float | None:
    true = contour_by_hand(truth, truth, id_)
    said = contour_by_hand(prediction, truth, id_)
    if not true and not said:
        return None
    if not true or not said:
        return 0.0
    precision = np.mean([min(math.dist(p, q) for q in true) <= tolerance for p in said])
    recall = np.mean([min(math.dist(p, q) for q in said) <= tolerance for p in true])
    if precision + recall == 0:
        return 0.0
    return float(2 * precision * recall / (precision + recall))


def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Truths with ignored pixels, class 3 never true, class 4 nowhere."""
    found = []
    for seed in range(4):
        truth = blobs(seed, [0, 1, 2, 255])
        prediction = np.roll(np.where(truth == 255, 0, truth), seed, axis=1)
        prediction[:3, 6:9] = 3
        found.append((truth, prediction.astype(np.uint8)))
    return found


@pytest.mark.parametrize("width", [1, 2, 3])
def test_boundary_iou_is_what_its_definition_gives(width: int) -> None:
    score = BoundaryIou(5, band_share=(width + 0.1) / DIAGONAL)
    intersection, union = np.zeros(5), np.zeros(5)
    for truth, prediction in pairs():
        score.update(truth, prediction)
        true = band_by_hand(truth, truth, width)
        said = band_by_hand(prediction, truth, width)
        for id_ in range(5):
            a, b = ({p for p in band if p[2] == id_} for band in (true, said))
            intersection[id_] += len(a & b)
            union[id_] += len(a | b)
    np.testing.assert_array_equal(score.intersection, intersection)
    np.testing.assert_array_equal(score.union, union)
    assert np.isnan(score.by_class[4])
    assert score.mean == pytest.approx(np.mean(intersection[:4] / union[:4]))


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 1.5, 2.3, 3.7])
def test_boundary_f_is_what_its_definition_gives(tolerance: float) -> None:
    score = BoundaryF(5, tolerance_share=tolerance / DIAGONAL)
    images = []
    for truth, prediction in pairs():
        score.update(truth, prediction)
        images.append([f_by_hand(truth, prediction, id_, tolerance) for id_ in range(5)])
    table = np.array(images, float)  # None becomes nan
    np.testing.assert_allclose(score.images, table)
    np.testing.assert_allclose(score.by_class[:4], np.nanmean(table[:, :4], axis=0))
    assert np.isnan(score.by_class[4])
    assert score.mean == pytest.approx(np.mean([np.nanmean(row) for row in table]))


def test_more_classes_than_one_word_has_bits() -> None:
    rng = np.random.default_rng(1)
    truth = blobs(1, list(range(70)), (24, 60))
    prediction = np.where(rng.random(truth.shape) < 0.9, truth, np.roll(truth, 4, 0))
    tolerance = 2.0
    score = BoundaryF(70, tolerance_share=tolerance / math.hypot(*truth.shape))
    score.update(truth, prediction)
    assert len(np.unique(truth)) > 32
    expected = [f_by_hand(truth, prediction, id_, tolerance) for id_ in range(70)]
    np.testing.assert_allclose(score.images[0], np.array(expected, float))


def test_a_perfect_prediction_scores_one() -> None:
    truth = blobs(2, [0, 1, 2])
    iou, f = BoundaryIou(3), BoundaryF(3)
    iou.update(truth, truth)
    f.update(truth, truth)
    assert (iou.mean, f.mean) == (1, 1)


@pytest.mark.parametrize("make", [BoundaryIou, BoundaryF])
def test_a_class_that_only_one_of_them_has_counts_as_zero(make: Any) -> None:
    one, other = (np.repeat([0, id_], 20).reshape(2, 20).astype(np.uint8) for id_ in (1, 2))
    score = make(4)
    score.update(one, other)
    np.testing.assert_array_equal(score.by_class[1:], [0, 0, np.nan])


def test_a_shift_costs_the_contour_more_than_the_area() -> None:
    truth = np.zeros((200, 200), np.uint8)
    truth[50:150, 50:150] = 1
    iou, f = BoundaryIou(2), BoundaryF(2)
    iou.update(truth, np.roll(truth, 4, axis=1))
    f.update(truth, np.roll(truth, 4, axis=1))
    assert iou.by_class[1] < 0.8 < 96 / 104
    assert f.by_class[1] < 0.7  # only where the square's upper and lower side overlap


def test_what_is_predicted_on_ignored_pixels_changes_nothing() -> None:
    truth, prediction = pairs()[0]
    other = np.where(truth == 255, 2, prediction).astype(np.uint8)
    for make in (BoundaryIou, BoundaryF):
        scores = []
        for candidate in (prediction, other):
            score = make(5)
            score.update(truth, candidate)
            scores.append(score.by_class)
        np.testing.assert_array_equal(*scores)


def test_nothing_counted_has_no_score() -> None:
    ignored = np.full(SIZE, 255, np.uint8)
    for make in (BoundaryIou, BoundaryF):
        score = make(2)
        assert np.isnan(score.mean)
        score.update(ignored, np.zeros(SIZE, np.uint8))
        assert np.isnan(score.mean)
        assert np.isnan(score.by_class).all()


def test_parts_add_up_to_the_whole() -> None:
    for make in (BoundaryIou, BoundaryF):
        whole, total = make(5), make(5)
        for truth, prediction in pairs():
            part = make(5)
            part.update(truth, prediction)
            whole.update(truth, prediction)
            total.add(part)
        np.testing.assert_array_equal(total.by_class, whole.by_class)
        assert total.mean == whole.mean
