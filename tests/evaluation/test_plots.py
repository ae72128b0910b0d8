from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

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
