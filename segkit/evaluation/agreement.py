"""compare(): in how far two models answer the same, on real images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segkit.errors import ConfigError, ContractMismatch
from segkit.evaluation.metrics import ConfusionMatrix
from segkit.evaluation.predictors import Predictor
from segkit.evaluation.real_images import RealImage
from segkit.labels import LabelMap
from segkit.video.resize import resize_image, resize_mask

__all__ = ["Agreement", "compare"]

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What two models say of the same images, the second held to the first.

    Both answer at their own image size and are brought to a label by nearest, so that nothing but
    the answers can differ.

    Args:
        labels: The first one's classes.
        images: How many images.
        pairs: Pixels by class of the first (row) and of the second (column).
        first: Of the first against the labels; None without labels.
        second: Of the second likewise.
    """

    labels: LabelMap
    images: int
    pairs: ConfusionMatrix
    first: ConfusionMatrix | None = None
    second: ConfusionMatrix | None = None

    @property
    def share(self) -> float:
        """Share of pixels to which both give the same class, 0..1."""
        return self.pairs.pixel_accuracy

    @property
    def mean_ious(self) -> tuple[float, float] | None:
        """mean_iou of both against the labels, of the classes that these images have."""
        if self.first is None or self.second is None:
            return None
        return self.first.mean_iou, self.second.mean_iou

    @property
    def miou_drop(self) -> float | None:
        """By how much the second's mean_iou is lower; below 0 if it is higher."""
        if self.mean_ious is None:
            return None
        first, second = self.mean_ious
        return first - second

    @property
    def largest_class_change(self) -> tuple[str, float] | None:
        """Class, and IoU of the second minus that of the first, where the two differ most."""
        if self.first is None or self.second is None:
            return None
        changes = self.second.class_iou - self.first.class_iou
        if not np.isfinite(changes).any():
            return None
        id_ = int(np.nanargmax(np.abs(changes)))
        return self.labels.names[id_], float(changes[id_])

    @property
    def least_alike(self) -> tuple[str, float] | None:
        """The class of which the two agree least, and the IoU of their two areas of it."""
        iou = self.pairs.class_iou
        if not np.isfinite(iou).any():
            return None
        id_ = int(np.nanargmin(iou))
        return self.labels.names[id_], float(iou[id_])

    def to_json(self) -> dict[str, Any]:
        """The same as what json.dumps takes; what has no value is null."""
        record: dict[str, Any] = {
            "images": self.images,
            "agreement": _plain(self.share),
            "least_alike": _named("iou", self.least_alike),
            "mean_iou": None,
            "largest_class_iou_change": _named("change", self.largest_class_change),
        }
        if self.mean_ious is not None:
            record["mean_iou"] = [_plain(value) for value in self.mean_ious]
        return record


def compare(first: Predictor, second: Predictor, images: Iterable[RealImage]) -> Agreement:
    """Shows both models every image.

    Args:
        first: What the second is held to.
        second: Its classes are matched to the first one's by name.
        images: All with labels in ids of the first, or all without.

    Raises:
        ConfigError: The two do not have the same classes.
        ContractMismatch: The second answers a class id that it has no class for.
    """
    to_first = _ids_in(first.labels, second.labels)
    num_classes = first.labels.num_classes
    pairs, of_first, of_second = (ConfusionMatrix(num_classes) for _ in range(3))
    count = 0
    labeled = False
    for shown in images:
        # At the size of one network both answers are compared as they were given.
        same_size = first.image_size == second.image_size
        size = first.image_size if same_size and first.image_size else shown.image.shape[:2]
        image = resize_image(shown.image, (size[0], size[1]))
        answer = first.predict(image, (size[0], size[1]))
        other = to_first[second.predict(image, (size[0], size[1]))]
        _check_ids(other, num_classes, shown.stem)
        pairs.update(answer, other)
        if shown.truth is not None:
            labeled = True
            of_first.update(shown.truth, resize_mask(answer, _size(shown.truth)))
            of_second.update(shown.truth, resize_mask(other, _size(shown.truth)))
        count += 1
    return Agreement(
        labels=first.labels,
        images=count,
        pairs=pairs,
        first=of_first if labeled else None,
        second=of_second if labeled else None,
    )


def _ids_in(first: LabelMap, second: LabelMap) -> UInt8:
    """A table from the second's class ids to the first's; others stay what they are."""
    if set(first.names) != set(second.names):
        only = [f"'{name}'" for name in first.names if name not in second.names]
        other = [f"'{name}'" for name in second.names if name not in first.names]
        raise ConfigError(
            "the two models do not have the same classes: "
            f"the first alone has {', '.join(only) or 'none'}, "
            f"the second alone {', '.join(other) or 'none'}",
            expected="two forms of one model, or two models of one set of classes",
        )
    table = np.arange(256, dtype=np.uint8)
    table[: second.num_classes] = [first.names.index(name) for name in second.names]
    return table


def _check_ids(mask: UInt8, num_classes: int, stem: str) -> None:
    if mask.size and mask.max() >= num_classes:
        raise ContractMismatch(
            f"the second model answers class id {mask.max()} on '{stem}'",
            expected=f"ids below {num_classes}, the number of its classes",
            next_step="publish it again from the checkpoint that it was made of",
        )


def _size(mask: UInt8) -> tuple[int, int]:
    return mask.shape[0], mask.shape[1]


def _named(key: str, found: tuple[str, float] | None) -> dict[str, Any] | None:
    return None if found is None else {"class": found[0], key: found[1]}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
