"""How well contours are met: boundary IoU and boundary F. No TensorFlow.

Both see contours between classes only: where a class meets ignored pixels there is none, and
ignored pixels count nowhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from segkit.evaluation.metrics import mean_of_present
from segkit.labels import IGNORE_ID

__all__ = ["BAND_SHARE", "TOLERANCE_SHARE", "BoundaryF", "BoundaryIou"]

Mask = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Shares of the image's diagonal.
BAND_SHARE = 0.02  # Cheng et al. 2021, sec. 4: for images of everyday size
TOLERANCE_SHARE = 0.0075  # Csurka et al. 2013, sec. 2

_NO_CLASS = np.uint8(IGNORE_ID)
_BITS = 32
_BIT = np.uint32(1) << np.arange(_BITS, dtype=np.uint32)


@dataclass
class BoundaryIou:
    """Boundary IoU by class: the IoU of the inner bands along the contours.

    A class's band is its pixels within `band_share` of the diagonal (rounded, one pixel at least)
    of its contour, measured by squares as the authors' program does; as there, a class also ends
    where the image does. Intersections and unions are summed over all images before they are
    divided, as those of mean_iou are (the paper scores objects, one by one).

    Args:
        num_classes: Number of classes.
        band_share: Width of the band, share of the diagonal.

    Reference: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation
        Evaluation", CVPR 2021, eq. 2.
    """

    num_classes: int
    band_share: float = BAND_SHARE
    intersection: Counts = field(init=False)
    union: Counts = field(init=False)

    def __post_init__(self) -> None:
        self.intersection = np.zeros(self.num_classes, np.int64)
        self.union = np.zeros(self.num_classes, np.int64)

    def update(self, truth: Mask, prediction: Mask) -> None:
        """Counts one image.

        Args:
            truth: Class ids, uint8, (H, W); 255 is ignored.
            prediction: Class ids, uint8, (H, W).
        """
        width = max(1, round(self.band_share * math.hypot(*truth.shape)))
        ignored = truth == IGNORE_ID
        true_band = _band(truth, ignored, width)
        predicted_band = _band(prediction, ignored, width)
        both = true_band & predicted_band & (truth == prediction)
        intersection = self._count(truth[both])
        self.intersection += intersection
        self.union += self._count(truth[true_band]) - intersection
        self.union += self._count(prediction[predicted_band])

    def add(self, other: BoundaryIou) -> None:
        """Adds what was counted elsewhere."""
        self.intersection += other.intersection
        self.union += other.union

    @property
    def by_class(self) -> Floats:
        """(num_classes,); nan where a class is in neither truth nor prediction."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.intersection / self.union.astype(np.float64))

    @property
    def mean(self) -> float:
        """Mean over the classes that are in truth or prediction."""
        return mean_of_present(self.by_class)

    def _count(self, ids: Mask) -> Counts:
        return np.bincount(ids, minlength=self.num_classes)


@dataclass
class BoundaryF:
    """Boundary F by class: how much of the contours lies within a tolerance of each other.

    Of one image and class: precision is the share of the predicted contour that lies within
    `tolerance_share` of the diagonal (Euclidean) of the true one, recall the reverse, F their
    harmonic mean; 0 where only one of them has a contour. A contour is the pixels of a class that
    share a side with one of another class. A class's score is the mean over the images in which it
    has a contour; an image's the mean over such classes; `mean` is that over the images.

    Args:
        num_classes: Number of classes.
        tolerance_share: Tolerance, share of the diagonal.

    Reference: Csurka et al., "What is a good evaluation measure for semantic segmentation?",
        BMVC 2013, sec. 2.
    """

    num_classes: int
    tolerance_share: float = TOLERANCE_SHARE
    images: list[Floats] = field(default_factory=list)

    def update(self, truth: Mask, prediction: Mask) -> None:
        """Scores one image, see `BoundaryIou.update`."""
        ignored = truth == IGNORE_ID
        true_contours = np.where(_contours(truth, ignored), truth, _NO_CLASS)
        contours = np.where(_contours(prediction, ignored), prediction, _NO_CLASS)
        tolerance = self.tolerance_share * math.hypot(*truth.shape)
        found, predicted = self._near(contours, true_contours, tolerance)
        met, wanted = self._near(true_contours, contours, tolerance)
        precision, recall = found / np.maximum(predicted, 1), met / np.maximum(wanted, 1)
        f = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
        f[(predicted == 0) & (wanted == 0)] = np.nan
        self.images.append(f)

    def add(self, other: BoundaryF) -> None:
        """Adds the images that were scored elsewhere."""
        self.images += other.images

    @property
    def by_class(self) -> Floats:
        """(num_classes,); nan where a class has no contour in any image."""
        columns = np.reshape(self.images, (-1, self.num_classes)).T
        return np.array([mean_of_present(column) for column in columns])

    @property
    def mean(self) -> float:
        """Mean over the images that have a contour."""
        return mean_of_present(np.array([mean_of_present(scores) for scores in self.images]))

    def _near(self, contours: Mask, others: Mask, tolerance: float) -> tuple[Floats, Floats]:
        """By class: contour pixels that have one of the other contours near, and all of them."""
        near = np.zeros(contours.shape, np.bool_)
        classes = np.flatnonzero(self._count(others))
        for first in range(0, len(classes), _BITS):
            bit_of = np.zeros(256, np.uint32)
            bit_of[classes[first : first + _BITS]] = _BIT[: len(classes) - first]
            near |= (_spread(bit_of[others], tolerance) & bit_of[contours]) != 0
        return self._count(contours[near]), self._count(contours)

    def _count(self, contours: Mask) -> Floats:
        return np.bincount(contours.ravel(), minlength=256)[: self.num_classes].astype(np.float64)


def _band(ids: Mask, ignored: Flags, width: int) -> Flags:
    """Which pixels have another class, or the image's edge, within a square of that half side."""
    # A pixel is of no band if the smallest and the largest class around it are its own: two filters
    # for all classes together. Ignored pixels must win neither.
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    smallest = cv2.erode(np.where(ignored, np.uint8(255), ids), kernel)
    largest = cv2.dilate(np.where(ignored, np.uint8(0), ids), kernel)
    band = np.asarray((smallest != ids) | (largest != ids))
    band[:width] = band[-width:] = True
    band[:, :width] = band[:, -width:] = True
    band[ignored] = False
    return band


def _contours(ids: Mask, ignored: Flags) -> Flags:
    """Which pixels share a side with a pixel of another class."""
    contours = np.zeros(ids.shape, np.bool_)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = (ids[one] != ids[other]) & ~ignored[one] & ~ignored[other]
        contours[one] |= differ
        contours[other] |= differ
    return contours


def _spread(bits: npt.NDArray[np.uint32], radius: float) -> npt.NDArray[np.uint32]:
    """ORs the bits of all pixels within a radius, Euclidean: a dilation of 32 classes at once."""
    spread, wide, half_width = np.zeros_like(bits), bits.copy(), 0
    # The disk is rows; from its ends to its middle they only grow.
    for row in range(int(radius), -1, -1):
        for column in range(half_width + 1, int(math.sqrt(radius**2 - row**2)) + 1):
            wide[:, column:] |= bits[:, :-column]
            wide[:, :-column] |= bits[:, column:]
            half_width = column
        spread[row:] |= wide[: len(wide) - row]
        spread[: len(wide) - row] |= wide[row:]
    return spread
