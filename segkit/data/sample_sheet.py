"""A picture sheet of samples with their masks drawn: the quickest look at a labelled set."""

from __future__ import annotations

import random
from collections.abc import Sequence

from segkit.data.picture_sheet import (
    IGNORED_LABEL,
    Picture,
    Tile,
    draw_sheet,
    fit_tile,
    lay_over,
)
from segkit.data.pixels import decode_image
from segkit.data.reader import Reader, Sample
from segkit.errors import DataError
from segkit.labels import LabelMap

__all__ = ["draw_samples", "random_samples"]


def random_samples(reader: Reader, count: int, *, seed: int) -> list[Sample]:
    """Up to `count` samples that can be loaded; the same seed gives the same ones."""
    samples = list(reader)
    random.Random(seed).shuffle(samples)
    found: list[Sample] = []
    for sample in samples:
        if len(found) == count:
            break
        try:
            sample.load()
        except DataError:
            continue
        found.append(sample)
    return found


def draw_samples(samples: Sequence[Sample], labels: LabelMap) -> Picture:
    """The sheet: uint8, (H, W, 3), RGB.

    Every picture is fitted into its tile with its mask over it; below it stand its split and name.
    What is ignored is hatched, and the background stays as the camera saw it. The legend names the
    colours.

    Args:
        samples: What to draw; each is loaded.
        labels: The classes.
    """
    return draw_sheet(
        [_tile(sample, labels) for sample in samples], [*labels.labels, IGNORED_LABEL]
    )


def _tile(sample: Sample, labels: LabelMap) -> Tile:
    pair = sample.load()
    image = decode_image(pair.image, source=sample.stem + pair.suffix)
    caption = f"{sample.split}  {sample.stem}" if sample.split else sample.stem
    picture, mask = fit_tile(image, pair.mask)
    return Tile(lay_over(picture, mask, labels), caption)
