from __future__ import annotations

import numpy as np
import pytest

from segkit.evaluation.comparison import ERROR_COLORS, GAP, comparison_row, error_picture
from segkit.labels import LabelMap

TRUTH = np.array([[0, 1, 255], [2, 2, 255]], np.uint8)
PREDICTION = np.array([[0, 2, 0], [2, 1, 255]], np.uint8)
KINDS = [["right", "wrong", "ignored"], ["right", "wrong", "ignored"]]


def test_every_pixel_has_the_color_of_its_kind() -> None:
    expected = [[ERROR_COLORS[kind] for kind in row] for row in KINDS]
    np.testing.assert_array_equal(error_picture(TRUTH, PREDICTION), expected)


def test_the_kinds_differ_in_lightness_alone() -> None:
    """Rec. 709 luma: who sees no colour must still tell them apart."""
    luma = sorted(np.dot(color, (0.2126, 0.7152, 0.0722)) for color in ERROR_COLORS.values())
    assert min(np.diff(luma)) > 60


def test_a_row_is_image_truth_prediction_error(labels: LabelMap) -> None:
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    row = comparison_row(image, TRUTH, PREDICTION, labels=labels)
    assert row.shape == (2, 4 * 3 + 3 * GAP, 3)
    step = 3 + GAP
    parts = [row[:, k * step : k * step + 3] for k in range(4)]
    np.testing.assert_array_equal(parts[0], image)
    np.testing.assert_array_equal(parts[1], labels.palette()[TRUTH])
    np.testing.assert_array_equal(parts[2], labels.palette()[PREDICTION])
    np.testing.assert_array_equal(parts[3], error_picture(TRUTH, PREDICTION))
    assert (row[:, 3:step] == 255).all()


def test_sizes_must_agree(labels: LabelMap) -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r"image is \(2, 4, 3\), not \(2, 3, 3\)"):
        comparison_row(image, TRUTH, PREDICTION, labels=labels)
    with pytest.raises(ValueError, match=r"prediction is \(3, 2\), not \(2, 3\)"):
        error_picture(TRUTH, PREDICTION.T)
