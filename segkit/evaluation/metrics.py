"""Everything that is read off a confusion matrix. No TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from segkit.labels import IGNORE_ID

__all__ = ["ConfusionMatrix", "mean_of_present"]

Floats = npt.NDArray[np.float64]


class ConfusionMatrix:
    """Counts of pixels by true class (row) and predicted class (column).

    Pixels whose true class is IGNORE_ID do not count. Sums over a whole data set are exact: the
    mean IoU of a split is the mean over classes of sums over images, not a mean over batches.

    Args:
        num_classes: Number of classes, with the background.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros((num_classes, num_classes), np.int64)

    def add(self, counts: npt.ArrayLike) -> None:
        """Adds counts that were made elsewhere, (num_classes, num_classes)."""
        self.counts += np.asarray(counts, np.int64)

    def update(self, truth: npt.NDArray[Any], prediction: npt.NDArray[Any]) -> None:
        """Counts the pixels of masks.

        Args:
            truth: Class ids of any integer dtype and shape; IGNORE_ID is left out.
            prediction: Class ids of the same shape.

        Raises:
            ValueError: The shapes differ, or a class id is neither a class's nor IGNORE_ID.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"truth is {truth.shape}, prediction {prediction.shape}")
        num_classes = len(self.counts)
        valid = truth != IGNORE_ID
        pairs = truth[valid].astype(np.int64) * num_classes + prediction[valid]
        if truth[valid].size and max(truth[valid].max(), prediction[valid].max()) >= num_classes:
            raise ValueError(f"a class id is not in 0..{num_classes - 1}")
        counts = np.bincount(pairs, minlength=num_classes**2)
        self.counts += counts.reshape(num_classes, num_classes)

    @property
    def class_iou(self) -> Floats:
        """IoU by class, (num_classes,); nan where a class is in neither truth nor prediction."""
        hit = np.diag(self.counts)
        return _ratio(hit, self.counts.sum(axis=0) + self.counts.sum(axis=1) - hit)

    @property
    def class_accuracy(self) -> Floats:
        """Share of a class's true pixels that were found; nan where it has none."""
        return _ratio(np.diag(self.counts), self.counts.sum(axis=1))

    @property
    def class_dice(self) -> Floats:
        """Dice coefficient (F1 of the pixels) by class; nan where `class_iou` is."""
        return _ratio(2 * np.diag(self.counts), self.counts.sum(axis=0) + self.counts.sum(axis=1))

    @property
    def pixels(self) -> npt.NDArray[np.int64]:
        """Counted true pixels by class, (num_classes,)."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def mean_iou(self) -> float:
        """Mean of `class_iou` over the classes that are in truth or prediction; nan if none is."""
        return mean_of_present(self.class_iou)

    @property
    def mean_accuracy(self) -> float:
        """Mean of `class_accuracy` over the classes that are in truth; nan if none is."""
        return mean_of_present(self.class_accuracy)

    @property
    def mean_dice(self) -> float:
        """Mean of `class_dice` over the classes that `mean_iou` takes."""
        return mean_of_present(self.class_dice)

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean of `class_iou`, each class weighted by its share of the true pixels."""
        present = self.pixels > 0
        if not present.any():
            return float("nan")
        return float(np.average(self.class_iou[present], weights=self.pixels[present]))

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond what the shares of the classes give by chance.

        nan where chance alone agrees everywhere: one class, in truth and in prediction.

        Reference: Cohen, "A coefficient of agreement for nominal scales", 1960.
        """
        total = float(self.counts.sum())
        if not total:
            return float("nan")
        by_chance = float(self.counts.sum(axis=0) / total @ (self.pixels / total))
        if by_chance == 1:
            return float("nan")
        return (self.pixel_accuracy - by_chance) / (1 - by_chance)

    @property
    def pixel_accuracy(self) -> float:
        """Share of all counted pixels that are right; nan without any."""
        return float(_ratio(np.diag(self.counts).sum(), self.counts.sum()))


def mean_of_present(values: Floats) -> float:
    """Mean of the values by class that are not nan; nan if all are."""
    present = values[np.isfinite(values)]
    return float(present.mean()) if present.size else float("nan")


def _ratio(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray(part / np.asarray(whole, np.float64))
