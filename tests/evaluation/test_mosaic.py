from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from segkit.data.picture_sheet import IGNORED_LABEL, Tile
from segkit.evaluation import mosaic
from segkit.evaluation.comparison import ERROR_COLORS
from segkit.evaluation.mosaic import batch_mosaic, prediction_mosaic, write_png
from segkit.labels import Label, LabelMap

LABELS = LabelMap((Label("road", (10, 200, 30)), Label("sky", (20, 40, 220))))


def share(picture: np.ndarray, color: tuple[int, int, int]) -> float:
    return float((picture == color).all(axis=2).mean())


def batch(count: int) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((count, 24, 32), np.uint8)
    mask[:, :12] = 1
    mask[:, :, :4] = 255
    return np.full((count, 24, 32, 3), 127.6, np.float32), mask


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (5, 2), (40, 4)])
def test_a_batch_is_shown_up_to_sixteen_images(count: int, rows: int) -> None:
    sheet = batch_mosaic(*batch(count), LABELS)
    one_row = batch_mosaic(*batch(1), LABELS).shape[0]
    two_rows = batch_mosaic(*batch(5), LABELS).shape[0]
    assert sheet.shape[0] == one_row + (rows - 1) * (two_rows - one_row)
    assert sheet.shape[1] < 2000
    assert share(sheet, IGNORED_LABEL.color) > 0.005


def test_captions_name_the_images() -> None:
    plain, named = (
        batch_mosaic(*batch(2), LABELS, captions=captions) for captions in ((), ("left", "right"))
    )
    assert plain.shape == named.shape
    assert (plain != named).any()


def test_predictions_show_truth_prediction_and_errors() -> None:
    images, truths = batch(1)
    perfect = prediction_mosaic(images, truths, np.where(truths == 255, 0, truths), LABELS)
    wrong = prediction_mosaic(images, truths, np.zeros_like(truths), LABELS)
    # In a perfect picture the colours of truth and prediction take the same area.
    assert share(perfect, (20, 40, 220)) == pytest.approx(2 * share(wrong, (20, 40, 220)), rel=0.1)
    swatch = share(perfect, ERROR_COLORS["wrong"])
    assert share(wrong, ERROR_COLORS["wrong"]) > swatch + 0.03
    assert share(perfect, ERROR_COLORS["right"]) > share(wrong, ERROR_COLORS["right"]) + 0.03


def test_no_more_rows_than_fit_on_a_screen() -> None:
    images, truths = batch(20)
    assert max(prediction_mosaic(images, truths, truths, LABELS).shape) < 2000


def test_values_beyond_the_range_are_not_wrapped_around() -> None:
    """Augmentation may leave a little above 255 and below 0."""
    _, masks = batch(1)
    bright, white = (np.full((1, 24, 32, 3), value, np.float32) for value in (259.0, 255.0))
    np.testing.assert_array_equal(
        prediction_mosaic(bright, masks, masks, LABELS),
        prediction_mosaic(white, masks, masks, LABELS),
    )


def test_what_is_ignored_counts_neither_as_right_nor_as_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Tile] = []
    monkeypatch.setattr(mosaic, "draw_sheet", lambda tiles, legend: drawn.extend(tiles))
    images, truths = batch(2)
    truths[1] = 255
    prediction_mosaic(images, truths, np.where(truths == 255, 0, truths), LABELS)
    assert [tile.caption for tile in drawn][3::4] == [
        "errors: 100.0% right",
        "errors: nothing labelled",
    ]


def test_a_legend_of_many_classes_leaves_the_picture_a_size_to_look_at() -> None:
    labels = LabelMap.from_names([f"a_class_with_a_name_{i}" for i in range(150)])
    sheet = batch_mosaic(*batch(16), labels)
    assert max(sheet.shape) <= 2100


def test_an_image_without_labels_can_be_drawn() -> None:
    images, truths = batch(1)
    truths[:] = 255
    assert prediction_mosaic(images, truths, np.zeros_like(truths), LABELS).size


def test_a_png_holds_the_picture(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    write_png(tmp_path / "a.png", picture)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
