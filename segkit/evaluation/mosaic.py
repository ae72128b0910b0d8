"""Mosaics of a training: what the network is shown, and what it makes of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from segkit.data.picture_sheet import IGNORED_LABEL, Picture, Tile, draw_sheet, fit_tile, lay_over
from segkit.evaluation.comparison import ERROR_COLORS, error_picture
from segkit.labels import IGNORE_ID, Label, LabelMap
from segkit.runs import replacing

__all__ = ["batch_mosaic", "prediction_mosaic", "write_png"]

_MOST_TILES, _MOST_ROWS = 16, 6

_ERROR_LABELS = [Label(kind, ERROR_COLORS[kind]) for kind in ("right", "wrong")]

Images = npt.NDArray[np.uint8 | np.float32]


def batch_mosaic(
    images: Images, masks: Picture, labels: LabelMap, *, captions: Sequence[str] = ()
) -> Picture:
    """A batch as the network sees it, with its masks over it: uint8, (H, W, 3), RGB.

    Args:
        images: (B, h, w, 3), RGB, 0..255, of any dtype; the first 16 are drawn.
        masks: uint8, (B, h, w), class ids.
        labels: The classes.
        captions: One an image; numbers by default.
    """
    tiles = []
    pairs = zip(images, masks, strict=True)
    for number, (image, mask) in enumerate(itertools.islice(pairs, _MOST_TILES)):
        picture, small = fit_tile(_uint8(image), mask)
        caption = captions[number] if captions else str(number)
        tiles.append(Tile(lay_over(picture, small, labels, opacity=0.45), caption))
    return draw_sheet(tiles, [*labels.labels, IGNORED_LABEL])


def prediction_mosaic(
    images: Images, truths: Picture, predictions: Picture, labels: LabelMap
) -> Picture:
    """Rows of image, truth, prediction and errors: uint8, (H, W, 3), RGB.

    Args:
        images: (B, h, w, 3), RGB, 0..255, of any dtype; the first 6 are drawn.
        truths: uint8, (B, h, w), class ids.
        predictions: Likewise.
        labels: The classes.
    """
    tiles = []
    for image, truth, prediction in list(zip(images, truths, predictions, strict=True))[
        :_MOST_ROWS
    ]:
        picture, true, predicted = fit_tile(_uint8(image), truth, prediction)
        right = (truth == prediction)[truth != IGNORE_ID]
        share = f"{right.mean():.1%} right" if right.size else "nothing labelled"
        tiles += [
            Tile(picture, "image"),
            Tile(_in_colors(true, labels), "truth"),
            Tile(_in_colors(predicted, labels), "prediction"),
            Tile(_hatched(error_picture(true, predicted), true), f"errors: {share}"),
        ]
    return draw_sheet(tiles, [*labels.labels, IGNORED_LABEL, *_ERROR_LABELS])


def write_png(path: Path, picture: Picture) -> None:
    """Writes a picture, uint8 (H, W, 3) RGB; at every moment a whole file is there.

    Raises:
        OSError: It cannot be written.
    """
    _, png = cv2.imencode(".png", picture[..., ::-1])
    with replacing(path) as incoming:
        incoming.write_bytes(png.tobytes())


def _in_colors(mask: Picture, labels: LabelMap) -> Picture:
    return _hatched(labels.palette()[mask], mask)


def _hatched(picture: Picture, mask: Picture) -> Picture:
    ignored = mask == IGNORE_ID
    picture[ignored] = (255, 255, 255)
    rows, columns = np.indices(mask.shape)
    picture[ignored & ((rows + columns) % 6 < 2)] = IGNORED_LABEL.color
    return picture


def _uint8(image: Images) -> Picture:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
