"""Scores: all that is counted of a split, and of each of its images. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from segkit.evaluation.boundary import BoundaryF, BoundaryIou
from segkit.evaluation.metrics import ConfusionMatrix
from segkit.labels import LabelMap

__all__ = ["RULE", "ImageScore", "Scores"]

Mask = npt.NDArray[np.uint8]

RULE = (
    "a class in neither truth nor prediction is left out of a mean; one that is only predicted "
    "counts as 0"
)


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """One image of a split.

    Args:
        stem: Its name.
        mean_iou: Its own mean IoU; nan where all of it is ignored.
    """

    stem: str
    mean_iou: float


@dataclass
class Scores:
    """What is counted over the images of a split, at the size of their labels.

    Args:
        num_classes: Number of classes.
    """

    num_classes: int
    matrix: ConfusionMatrix = field(init=False)
    boundary_iou: BoundaryIou = field(init=False)
    boundary_f: BoundaryF = field(init=False)
    images: list[ImageScore] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.matrix = ConfusionMatrix(self.num_classes)
        self.boundary_iou = BoundaryIou(self.num_classes)
        self.boundary_f = BoundaryF(self.num_classes)

    @classmethod
    def of(cls, stem: str, truth: Mask, prediction: Mask, *, num_classes: int) -> Scores:
        """The scores of one image.

        Args:
            stem: Its name.
            truth: Class ids, uint8, (H, W); 255 is ignored.
            prediction: Class ids, uint8, (H, W).
            num_classes: Number of classes.
        """
        scores = cls(num_classes)
        scores.matrix.update(truth, prediction)
        scores.boundary_iou.update(truth, prediction)
        scores.boundary_f.update(truth, prediction)
        scores.images.append(ImageScore(stem=stem, mean_iou=scores.matrix.mean_iou))
        return scores

    def add(self, other: Scores) -> None:
        """Adds the scores of other images."""
        self.matrix.add(other.matrix.counts)
        self.boundary_iou.add(other.boundary_iou)
        self.boundary_f.add(other.boundary_f)
        self.images += other.images

    def summary(self) -> dict[str, float]:
        """Score -> its value over the whole split, 0..1 (kappa: -1..1)."""
        return {
            "mean_iou": self.matrix.mean_iou,
            "pixel_accuracy": self.matrix.pixel_accuracy,
            "mean_accuracy": self.matrix.mean_accuracy,
            "frequency_weighted_iou": self.matrix.frequency_weighted_iou,
            "mean_dice": self.matrix.mean_dice,
            "kappa": self.matrix.kappa,
            "boundary_iou": self.boundary_iou.mean,
            "boundary_f": self.boundary_f.mean,
        }

    def by_class(self) -> Mapping[str, npt.NDArray[Any]]:
        """Score -> its values, (num_classes,); nan where a class has none."""
        return {
            "iou": self.matrix.class_iou,
            "accuracy": self.matrix.class_accuracy,
            "dice": self.matrix.class_dice,
            "boundary_iou": self.boundary_iou.by_class,
            "boundary_f": self.boundary_f.by_class,
            "pixels": self.matrix.pixels,
        }

    def worst_images(self) -> list[ImageScore]:
        """The images, those of the lowest mean IoU first; those without one are left out."""
        scored = [image for image in self.images if np.isfinite(image.mean_iou)]
        return sorted(scored, key=lambda image: (image.mean_iou, image.stem))

    def to_json(self, labels: LabelMap) -> dict[str, Any]:
        """The same as what json.dumps takes; what has no value is null."""
        columns = {name: values.tolist() for name, values in self.by_class().items()}
        classes = [
            {"class": name, **{column: _plain(values[id_]) for column, values in columns.items()}}
            for id_, name in enumerate(labels.names)
        ]
        return {
            "summary": {name: _plain(value) for name, value in self.summary().items()},
            "rule": RULE,
            "classes": classes,
            "confusion_matrix": self.matrix.counts.tolist(),
            "images": [
                {"stem": image.stem, "mean_iou": image.mean_iou} for image in self.worst_images()
            ],
        }


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None
