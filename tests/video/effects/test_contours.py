"""Contours, the mask alone, the confidence: what each pixel shows."""

from __future__ import annotations

import numpy as np
import pytest

from segkit.labels import IGNORE_ID, LabelMap
from segkit.video.effects.confidence_map import ConfidenceMap
from segkit.video.effects.contours import Contours
from segkit.video.effects.plain import MaskOnly

ROAD, CAR = (128, 64, 128), (64, 0, 128)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(8).integers(0, 256, (400, 300, 3), np.uint8)


def halves(left: int, right: int) -> np.ndarray:
    mask = np.full((400, 300), left, np.uint8)
    mask[:, 150:] = right
    return mask


def test_each_class_has_its_border_on_its_own_side(image: np.ndarray, labels: LabelMap) -> None:
    picture = Contours(labels, width=1 / 200, legend=False)(image, halves(1, 2))
    assert (picture[:, 148:150] == ROAD).all()
    assert (picture[:, 150:152] == CAR).all()
    np.testing.assert_array_equal(picture[:, :148], image[:, :148])
    np.testing.assert_array_equal(picture[:, 152:], image[:, 152:])


@pytest.mark.parametrize("other", [0, IGNORE_ID, 77])
def test_what_has_no_color_gets_no_border(image: np.ndarray, labels: LabelMap, other: int) -> None:
    picture = Contours(labels, legend=False)(image, halves(other, 2))
    np.testing.assert_array_equal(picture[:, :150], image[:, :150])
    assert (picture[:, 150:152] == CAR).all()


def test_only_chosen_classes_are_outlined(image: np.ndarray, labels: LabelMap) -> None:
    chosen = Contours(labels, class_ids=(1,), legend=False)
    np.testing.assert_array_equal(chosen(image, halves(0, 2)), image)
    assert (chosen(image, halves(1, 2))[:, 148:150] == ROAD).all()


def test_the_legend_names_only_what_is_outlined(image: np.ndarray, labels: LabelMap) -> None:
    nothing = np.zeros((400, 300), np.uint8)
    one = Contours(labels, class_ids=(1,))(image, nothing)
    assert not (one == CAR).all(-1).any()
    assert (one == ROAD).all(-1).sum() > 20
    none = Contours(labels, class_ids=(0,))(image, nothing)
    np.testing.assert_array_equal(none, image)


def test_the_mask_alone_is_the_palette(image: np.ndarray, labels: LabelMap) -> None:
    picture = MaskOnly(labels, legend=False)(image, halves(1, 2))
    np.testing.assert_array_equal(picture, labels.palette()[halves(1, 2)])


def test_the_less_sure_the_brighter(image: np.ndarray) -> None:
    confidence = np.tile(np.linspace(0, 255, 300).astype(np.uint8), (400, 1))
    image = np.full_like(image, 90)
    picture = ConfidenceMap(legend=False)(image, halves(1, 2), confidence)
    brightness = picture[0].astype(int).sum(-1)
    assert (np.diff(brightness[::10]) < 0).all()
    assert picture[0, -1].max() < 40, "sure pixels are dark"


def test_a_confidence_map_without_confidence_is_a_bug_of_the_caller(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="without the confidence"):
        ConfidenceMap()(image, halves(1, 2))
