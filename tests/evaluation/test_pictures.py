from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from segkit.evaluation.comparison import ERROR_COLORS, comparison_row
from segkit.evaluation.measure import Example
from segkit.evaluation.pictures import Pictures, captioned
from segkit.evaluation.scores import Scores
from segkit.labels import LabelMap

SIZE = (60, 200)


def example(stem: str, share_right: float) -> tuple[Example, np.ndarray, Scores]:
    """An image of class 1 of which a share is predicted so, the rest as class 2."""
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    truth = np.ones(SIZE, np.uint8)
    truth[:5] = 255
    prediction = np.full(SIZE, 2, np.uint8)
    prediction[:, : round(share_right * SIZE[1])] = 1
    scores = Scores.of(stem, truth, prediction, num_classes=3)
    return Example(stem=stem, image=image, truth=truth), prediction, scores


def test_a_picture_is_the_comparison_with_captions_above_and_classes_below(
    labels: LabelMap,
) -> None:
    shown, prediction, scores = example("a", 0.5)
    picture = captioned(shown, prediction, scores.matrix, labels=labels)
    row = comparison_row(shown.image, shown.truth, prediction, labels=labels)
    top = next(
        y
        for y in range(picture.shape[0] - row.shape[0])
        if (picture[y : y + row.shape[0]] == row).all()
    )
    above, below = picture[:top], picture[top + row.shape[0] :]
    for color in ERROR_COLORS.values():
        assert (above == color).all(-1).any()
    used, unused = labels.labels[1].color, labels.labels[0].color
    assert (below == used).all(-1).any()
    assert not (below == unused).all(-1).any()  # in neither: not in the legend


def test_many_classes_take_several_lines() -> None:
    labels = LabelMap.from_names(f"a class of number {id_}" for id_ in range(30))
    truth = np.arange(60 * 200).reshape(SIZE).astype(np.int64) % 30
    truth = truth.astype(np.uint8)
    shown = Example(stem="a", image=np.zeros((*SIZE, 3), np.uint8), truth=truth)
    scores = Scores.of("a", truth, truth, num_classes=30)
    picture = captioned(shown, truth, scores.matrix, labels=labels)
    below = picture[SIZE[0] + 19 :]
    for label in labels.labels[1:]:
        assert (below == label.color).all(-1).any(), label.name


def test_a_small_image_is_shown_larger_and_a_long_name_cut(labels: LabelMap) -> None:
    truth = np.ones((20, 30), np.uint8)
    image = np.full((20, 30, 3), 77, np.uint8)
    scores = Scores.of("a", truth, truth, num_classes=3)
    short, long = (
        captioned(Example(stem=stem, image=image, truth=truth), truth, scores.matrix, labels=labels)
        for stem in ("b", "b" * 200)
    )
    assert short.shape == long.shape
    assert short.shape[1] == 7 * (4 * 30 + 3 * 4)  # 210 pixels, the first multiple from 200 on
    assert (short == 77).all(-1).sum() == 49 * 20 * 30
    second = 7 * (30 + 4)  # where the next column begins
    np.testing.assert_array_equal(short[:, second:], long[:, second:])


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_every_image_is_written_under_its_stem(labels: LabelMap, tmp_path: Path) -> None:
    pictures = Pictures(tmp_path, labels)
    for stem in ("a", "folder/b"):
        pictures.add(*example(stem, 0.5))
    pictures.finish()
    assert files(tmp_path) == ["a.png", "folder/b.png"]
    shown, prediction, scores = example("a", 0.5)
    written = cv2.imread(str(tmp_path / "a.png"))[..., ::-1]
    expected = captioned(shown, prediction, scores.matrix, labels=labels)
    np.testing.assert_array_equal(written, expected)
    assert pictures.written == 2


@pytest.mark.parametrize("order", [(0.9, 0.1, 0.5, 0.3), (0.1, 0.3, 0.5, 0.9)])
def test_a_count_keeps_the_worst(
    labels: LabelMap, tmp_path: Path, order: tuple[float, ...]
) -> None:
    pictures = Pictures(tmp_path, labels, count=2)
    for share in order:
        pictures.add(*example(f"{share}", share))
    shown, prediction, _ = example("ignored", 0.5)
    nothing = Example(stem="ignored", image=shown.image, truth=np.full(SIZE, 255, np.uint8))
    scores = Scores.of("ignored", nothing.truth, prediction, num_classes=3)
    pictures.add(nothing, prediction, scores)
    assert files(tmp_path) == []
    pictures.finish()
    assert files(tmp_path) == ["0.1.png", "0.3.png"]
