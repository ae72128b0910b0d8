from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from segkit.evaluation import plots
from segkit.evaluation.contact_sheet import RULE
from segkit.evaluation.metrics import ConfusionMatrix
from segkit.evaluation.plots import write_confusion_matrix, write_curves
from segkit.labels import LabelMap


def rows(epochs: int, names: tuple[str, ...], score: float = 0.5) -> list[dict[str, Any]]:
    return [
        {
            "epoch": str(epoch),
            "step": str(10 * epoch),
            "loss": str(1 / epoch),
            "learning_rate": "0.001",
            "images_per_second": "12",
            "val_mean_iou": str(score),
            "val_pixel_accuracy": "0.7",
        }
        | {f"val_iou_{name}": "nan" if i % 3 == 2 else str(i / 200) for i, name in enumerate(names)}
        for epoch in range(1, epochs + 1)
    ]


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be written."""
    kept: list[Any] = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: kept.append(figure))
    return kept


def titled(figure: Any, title: str) -> Any:
    (axes,) = (axes for axes in figure.axes if title in axes.get_title(loc="left"))
    return axes


@pytest.mark.parametrize("classes", [2, 150])
@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_curves_of_any_length_and_number_of_classes(
    epochs: int, classes: int, tmp_path: Path
) -> None:
    names = tuple(f"class_{i}" for i in range(classes))
    write_curves(tmp_path / "curves.png", rows(epochs, names))
    assert read(tmp_path / "curves.png").std() > 5


def test_curves_without_any_score(tmp_path: Path) -> None:
    write_curves(tmp_path / "curves.png", rows(3, ("a", "b"), score=float("nan")))
    assert read(tmp_path / "curves.png").size


def test_the_curve_is_drawn_where_the_scores_are(tmp_path: Path) -> None:
    """Better scores change the upper left quarter, and the title above it."""
    for name, score in (("low", 0.1), ("high", 0.9)):
        table = rows(10, ("a",))
        for row in table[5:]:
            row["val_mean_iou"] = score
        write_curves(tmp_path / f"{name}.png", table)
    low, high = (read(tmp_path / f"{name}.png") for name in ("low", "high"))
    height, width = low.shape[:2]
    differs = (low != high).any(axis=2)
    assert differs[: height // 2, : width // 2].any()
    assert not differs[:, 2 * width // 3 :].any()


def test_each_curve_is_its_own_column(figures: list[Any]) -> None:
    table = rows(4, ("a",))
    for row, score in zip(table, ("0.2", "nan", "0.6", "0.4"), strict=True):
        row["val_mean_iou"] = score
    write_curves(Path("unused"), table)
    score = titled(figures[0], "val mean IoU, best 0.600 @ 3")
    curve, best = score.lines
    np.testing.assert_array_equal(curve.get_ydata(), [0.2, np.nan, 0.6, 0.4])
    assert (best.get_xdata(), best.get_ydata()) == ([3.0], [0.6])
    loss, rate = titled(figures[0], "train loss"), titled(figures[0], "learning rate")
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), [0.001] * 4)


@pytest.mark.parametrize(("epochs", "marker"), [(1, "o"), (3, "None")])
def test_one_epoch_is_a_point(epochs: int, marker: str, figures: list[Any]) -> None:
    write_curves(Path("unused"), rows(epochs, ("a",)))
    assert titled(figures[0], "train loss").lines[0].get_marker() == marker


def test_classes_stand_by_their_last_score_and_those_without_one_are_last(
    figures: list[Any],
) -> None:
    write_curves(Path("unused"), rows(2, ("first", "second", "absent")))  # 0, 0.005, nan
    axes = titled(figures[0], "val IoU by class")
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["second", "first", "absent"]
    assert [text.get_text() for text in axes.texts] == ["0.01", "0.00", "nan"]
    np.testing.assert_allclose(axes.images[0].get_array()[:2, -1], [0.005, 0])


def test_a_confusion_matrix_is_in_shares_of_the_true_class(figures: list[Any]) -> None:
    matrix = ConfusionMatrix(3)
    matrix.add(np.array([[6, 2, 0], [30, 10, 0], [0, 0, 0]]))
    write_confusion_matrix(Path("unused"), matrix, LabelMap.from_names(["a", "b", "absent"]))
    axes = titled(figures[0], "mean IoU")
    drawn = axes.images[0]
    np.testing.assert_allclose(drawn.get_array()[:2], [[0.75, 0.25, 0], [0.75, 0.25, 0]])
    assert [text.get_text() for text in axes.texts] == ["75", "25", "75", "25"]
    assert drawn.get_array().mask[2].all()
    assert drawn.get_cmap().get_bad() == pytest.approx(to_rgba(RULE))


def test_numbers_are_left_out_where_there_is_no_room(figures: list[Any]) -> None:
    matrix = ConfusionMatrix(150)
    matrix.add(np.eye(150, dtype=int))
    labels = LabelMap.from_names([f"class_{i}" for i in range(150)])
    write_confusion_matrix(Path("unused"), matrix, labels)
    assert not figures[0].axes[0].texts
    assert len(figures[0].axes[0].get_yticklabels()) < 50


@pytest.mark.parametrize("classes", [2, 3, 11])
def test_the_title_of_a_confusion_matrix_is_not_cut_off(
    classes: int, figures: list[Any], tmp_path: Path
) -> None:
    matrix = ConfusionMatrix(classes)
    matrix.add(np.eye(classes, dtype=int))
    labels = LabelMap.from_names([f"a_rather_long_name_{i}" for i in range(classes)])
    write_confusion_matrix(Path("unused"), matrix, labels)
    (figure,) = figures
    figure.savefig(tmp_path / "drawn.png")
    title = next(text for text in figure.findobj() if "mean IoU" in str(text))
    bar = figure.axes[1].get_window_extent()
    assert title.get_window_extent().x1 < min(figure.bbox.x1, bar.x1)


@pytest.mark.parametrize("classes", [2, 11, 150])
def test_confusion_matrices_of_any_number_of_classes(classes: int, tmp_path: Path) -> None:
    matrix = ConfusionMatrix(classes)
    matrix.add(np.diag(np.arange(classes)))  # the first class has no pixels
    labels = LabelMap.from_names([f"class_{i}" for i in range(classes)])
    write_confusion_matrix(tmp_path / "matrix.png", matrix, labels)
    picture = read(tmp_path / "matrix.png")
    assert max(picture.shape) < 2200
    dark_blue = (picture[..., 0] > picture[..., 2].astype(int) + 60).mean()
    assert dark_blue > 0.001  # the diagonal


def test_a_picture_that_cannot_be_written_leaves_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        write_curves(tmp_path / "missing" / "curves.png", rows(2, ("a",)))
    assert not list(tmp_path.iterdir())
