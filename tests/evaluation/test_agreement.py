from __future__ import annotations

import numpy as np
import pytest

from segkit.errors import ConfigError, ContractMismatch
from segkit.evaluation.agreement import compare
from segkit.evaluation.real_images import RealImage
from segkit.labels import LabelMap

LABELS = LabelMap.from_names(("background", "road", "car"))


class Fixed:
    """Answers the mask that it was made with, at whatever size it is asked for."""

    def __init__(self, mask: list[list[int]], labels: LabelMap = LABELS) -> None:
        self.mask = np.array(mask, np.uint8)
        self.labels = labels
        self.image_size: tuple[int, int] | None = self.mask.shape

    def predict(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        assert image.shape == (*size, 3)
        return np.kron(
            self.mask,
            np.ones([a // b for a, b in zip(size, self.mask.shape, strict=True)], np.uint8),
        )


def shown(truth: list[list[int]] | None = None, size: tuple[int, int] = (2, 2)) -> RealImage:
    return RealImage(
        stem="street",
        image=np.zeros((*size, 3), np.uint8),
        truth=None if truth is None else np.array(truth, np.uint8),
    )


def test_the_same_answers_agree_everywhere() -> None:
    found = compare(Fixed([[0, 1], [2, 1]]), Fixed([[0, 1], [2, 1]]), [shown(), shown()])
    assert (found.images, found.share, found.mean_ious, found.miou_drop) == (2, 1.0, None, None)
    assert found.to_json()["mean_iou"] is None


def test_agreement_is_the_share_of_pixels_and_names_the_class_that_is_least_alike() -> None:
    found = compare(Fixed([[0, 1], [2, 1]]), Fixed([[0, 1], [1, 1]]), [shown()])
    assert found.share == 0.75
    assert found.least_alike == ("car", 0.0)


def test_both_are_scored_where_there_are_labels() -> None:
    truth = [[0, 1], [2, 1]]
    found = compare(Fixed(truth), Fixed([[0, 1], [1, 1]]), [shown(truth)])
    assert found.mean_ious == (1.0, pytest.approx((1 + 2 / 3 + 0) / 3))
    assert found.miou_drop == pytest.approx(4 / 9)
    assert found.largest_class_change == ("car", -1.0)
    assert found.to_json()["largest_class_iou_change"] == {"class": "car", "change": -1.0}


def test_ignored_pixels_agree_but_are_not_scored() -> None:
    found = compare(Fixed([[0, 1], [2, 1]]), Fixed([[0, 1], [1, 1]]), [shown([[0, 1], [255, 1]])])
    assert found.share == 0.75
    assert found.mean_ious == (1.0, 1.0)


def test_classes_are_matched_by_name() -> None:
    other = LabelMap.from_names(("road", "car", "background"))
    found = compare(Fixed([[0, 1], [2, 1]]), Fixed([[2, 0], [1, 0]], other), [shown()])
    assert found.share == 1.0


def test_ids_under_the_names_of_other_classes_do_not_agree() -> None:
    other = LabelMap.from_names(("road", "car", "background"))
    found = compare(Fixed([[0, 1], [2, 1]]), Fixed([[0, 1], [2, 1]], other), [shown()])
    assert found.share == 0.0


def test_other_classes_are_refused_with_their_names() -> None:
    other = LabelMap.from_names(("background", "road", "truck"))
    with pytest.raises(ConfigError, match=r"first alone has 'car', the second alone 'truck'"):
        compare(Fixed([[0]]), Fixed([[0]], other), [shown(size=(1, 1))])


def test_an_id_without_a_class_is_refused() -> None:
    with pytest.raises(ContractMismatch, match="class id 7 on 'street'"):
        compare(Fixed([[0]]), Fixed([[7]]), [shown(size=(1, 1))])


def test_models_of_two_sizes_are_compared_at_the_size_of_the_image() -> None:
    small, large = Fixed([[1]]), Fixed([[1, 1], [1, 2]])
    found = compare(small, large, [shown(size=(4, 4))])
    assert (found.pairs.counts.sum(), found.share) == (16, 0.75)
