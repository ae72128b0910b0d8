"""A picture sheet of samples with their masks drawn: the quickest look at a labelled set."""

from __future__ import annotations

import random
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from segkit.data.pixels import decode_image
from segkit.data.reader import Reader, Sample
from segkit.errors import DataError
from segkit.labels import IGNORE_ID, Label, LabelMap
from segkit.video.drawing import Overlay

__all__ = ["draw_samples", "random_samples"]

Picture = npt.NDArray[np.uint8]

_COLUMNS = 4
_TILE = (240, 320)  # height and width of a picture
_CAPTION, _GAP, _MARGIN, _LINE = 22, 10, 16, 24
_INK, _PAPER = (29, 39, 51), (255, 255, 255)
_IGNORED = (255, 0, 255)


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
    rows = -(-len(samples) // _COLUMNS)
    width = 2 * _MARGIN + _COLUMNS * _TILE[1] + (_COLUMNS - 1) * _GAP
    entries = [*labels.labels, Label("ignored", _IGNORED)]
    legend = _legend(entries, width - 2 * _MARGIN)
    height = 2 * _MARGIN + rows * (_TILE[0] + _CAPTION + _GAP) + len(legend) * _LINE
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    overlay = Overlay(labels, opacity=0.55, legend=False)
    for number, sample in enumerate(samples):
        row, column = divmod(number, _COLUMNS)
        left = _MARGIN + column * (_TILE[1] + _GAP)
        top = _MARGIN + row * (_TILE[0] + _CAPTION + _GAP)
        tile = _tile(sample, overlay)
        sheet.paste(
            Image.fromarray(tile),
            (left + (_TILE[1] - tile.shape[1]) // 2, top + (_TILE[0] - tile.shape[0]) // 2),
        )
        caption = f"{sample.split}  {sample.stem}" if sample.split else sample.stem
        while draw.textlength(caption, font) > _TILE[1]:
            caption = "..." + caption[4:]
        draw.text((left, top + _TILE[0] + 3), caption, _INK, font)
    top = height - _MARGIN - len(legend) * _LINE
    for line in legend:
        for label, left in line:
            box = (_MARGIN + left, top + 5, _MARGIN + left + 18, top + 19)
            draw.rectangle(box, label.color, outline=_INK)
            draw.text((_MARGIN + left + 24, top + 4), label.name, _INK, font)
        top += _LINE
    return np.asarray(sheet)


def _tile(sample: Sample, overlay: Overlay) -> Picture:
    """Image and mask, no larger than a tile."""
    pair = sample.load()
    image = decode_image(pair.image, source=sample.stem + pair.suffix)
    scale = min(_TILE[0] / image.shape[0], _TILE[1] / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(pair.mask, size, interpolation=cv2.INTER_NEAREST)
    picture = overlay(small, mask)
    rows, columns = np.indices(mask.shape)
    picture[(mask == IGNORE_ID) & ((rows + columns) % 6 < 2)] = _IGNORED
    return picture


def _legend(labels: Sequence[Label], width: int) -> list[list[tuple[Label, int]]]:
    """Lines of labels, each with the place where it begins."""
    font = ImageFont.load_default(size=13)
    lines: list[list[tuple[Label, int]]] = [[]]
    left = 0
    for label in labels:
        room = 24 + round(font.getlength(label.name)) + 18
        if left + room > width and lines[-1]:
            lines.append([])
            left = 0
        lines[-1].append((label, left))
        left += room
    return lines
