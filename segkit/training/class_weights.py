"""How much a pixel of each class counts: from a file, or from how often the class occurs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segkit.errors import ConfigError
from segkit.labels import IGNORE_ID, LabelMap

__all__ = [
    "ClassCounts",
    "count_classes",
    "enet_weights",
    "median_frequency_weights",
    "read_weights",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClassCounts:
    """How often the classes occur in a set of masks; ignored pixels do not count.

    Attributes:
        pixels: Pixels of each class, int64 (num_classes,).
        pixels_where_present: Pixels, of any class, of the masks that have the class, likewise.
    """

    pixels: npt.NDArray[np.int64]
    pixels_where_present: npt.NDArray[np.int64]


def count_classes(masks: Iterable[npt.NDArray[np.uint8]], num_classes: int) -> ClassCounts:
    """Counts the classes of masks of class ids, each (H, W)."""
    pixels, present = np.zeros((2, num_classes), np.int64)
    for mask in masks:
        counts = np.bincount(mask.ravel(), minlength=IGNORE_ID + 1)[:num_classes]
        pixels += counts
        present += np.where(counts > 0, counts.sum(), 0)
    return ClassCounts(pixels, present)


def median_frequency_weights(counts: ClassCounts) -> Floats:
    """Median of the frequencies over each class's own (Eigen and Fergus 2015, section 6.3.2).

    The frequency of a class is its share of the pixels of the images that have it. A class that
    never occurs weighs 0.
    """
    there = counts.pixels > 0
    frequency = counts.pixels[there] / counts.pixels_where_present[there]
    weights = np.zeros(len(counts.pixels))
    weights[there] = np.median(frequency) / frequency
    return weights


def enet_weights(counts: ClassCounts, *, c: float = 1.02) -> Floats:
    """1 / ln(c + share of all pixels) (Paszke et al. 2016, ENet, section 5.2).

    A class that never occurs weighs 0.
    """
    share = counts.pixels / max(counts.pixels.sum(), 1)
    return np.where(counts.pixels > 0, 1.0 / np.log(c + share), 0.0)


def read_weights(path: Path, labels: LabelMap) -> Floats:
    """Reads a YAML file of `class name: weight`.

    Raises:
        ConfigError: It cannot be read, lacks a class, names another, or a weight is negative.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise ConfigError(
            f"the class weights '{path}' cannot be read: {getattr(err, 'strerror', None) or err}",
            expected="median, enet, none, or a YAML file of lines 'class name: weight'",
        ) from err
    weights = content if isinstance(content, dict) else {}
    missing = [name for name in labels.names if name not in weights]
    unknown = [str(name) for name in weights if name not in labels.names]
    if missing or unknown or not weights:
        what = f"lack '{missing[0]}'" if missing else f"have '{unknown[0]}', which is no class"
        raise ConfigError(
            f"the class weights '{path}' {what}",
            expected="a line 'class name: weight' for each of " + ", ".join(labels.names),
        )
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0:
            raise ConfigError(
                f"the class weights '{path}' give '{name}' {weight!r}",
                expected="a number, 0 or more",
            )
    return np.array([float(weights[name]) for name in labels.names])
