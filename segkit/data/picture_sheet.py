"""A sheet of pictures with captions and the legend of their colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from segkit.labels import IGNORE_ID, Label, LabelMap
from segkit.video.effects import Overlay

__all__ = ["COLUMNS", "IGNORED_LABEL", "Picture", "Tile", "draw_sheet", "fit_tile", "lay_over"]

Picture = npt.NDArray[np.uint8]

COLUMNS = 4
IGNORED_LABEL = Label("ignored", (255, 0, 255))

_TILE = (240, 320)  # height and width of a picture
_CAPTION, _GAP, _MARGIN, _LINE = 22, 10, 16, 24
_INK, _PAPER = (29, 39, 51), (255, 255, 255)


class Tile(NamedTuple):
    """A picture of a sheet.

    Attributes:
        picture: uint8, (H, W, 3), RGB, no larger than `fit_tile` makes it.
        caption: Stands below it.
    """

    picture: Picture
    caption: str


def draw_sheet(tiles: Sequence[Tile], legend: Sequence[Label]) -> Picture:
    """The sheet, COLUMNS pictures wide: uint8, (H, W, 3), RGB.

    Args:
        tiles: The pictures, row by row.
        legend: Names of the colours.
    """
    rows = -(-len(tiles) // COLUMNS)
    width = 2 * _MARGIN + COLUMNS * _TILE[1] + (COLUMNS - 1) * _GAP
    lines = _legend_lines(legend, width - 2 * _MARGIN)
    height = 2 * _MARGIN + rows * (_TILE[0] + _CAPTION + _GAP) + len(lines) * _LINE
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for number, (picture, caption) in enumerate(tiles):
        row, column = divmod(number, COLUMNS)
        left = _MARGIN + column * (_TILE[1] + _GAP)
        top = _MARGIN + row * (_TILE[0] + _CAPTION + _GAP)
        sheet.paste(
            Image.fromarray(picture),
            (left + (_TILE[1] - picture.shape[1]) // 2, top + (_TILE[0] - picture.shape[0]) // 2),
        )
        while draw.textlength(caption, font) > _TILE[1]:
            caption = "..." + caption[4:]
        draw.text((left, top + _TILE[0] + 3), caption, _INK, font)
    top = height - _MARGIN - len(lines) * _LINE
    for line in lines:
        for label, left in line:
            box = (_MARGIN + left, top + 5, _MARGIN + left + 18, top + 19)
            draw.rectangle(box, label.color, outline=_INK)
            draw.text((_MARGIN + left + 24, top + 4), label.name, _INK, font)
        top += _LINE
    return np.asarray(sheet)


def fit_tile(image: Picture, *masks: Picture) -> list[Picture]:
    """An image and its masks as large as a tile takes them, all of one shape.

    Args:
        image: uint8, (H, W, 3), RGB.
        masks: uint8, (H, W), class ids.
    """
    scale = min(_TILE[0] / image.shape[0], _TILE[1] / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return [
        np.asarray(small),
        *(np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)) for mask in masks),
    ]


def lay_over(image: Picture, mask: Picture, labels: LabelMap, *, opacity: float = 0.55) -> Picture:
    """A mask over its image; what is ignored is hatched in the colour of IGNORED_LABEL.

    Args:
        image: uint8, (H, W, 3), RGB.
        mask: uint8, (H, W), class ids.
        labels: The classes.
        opacity: Share of the colour, as of Overlay.
    """
    picture = Overlay(labels, opacity=opacity, legend=False)(image, mask)
    rows, columns = np.indices(mask.shape)
    picture[(mask == IGNORE_ID) & ((rows + columns) % 6 < 2)] = IGNORED_LABEL.color
    return picture


def _legend_lines(labels: Sequence[Label], width: int) -> list[list[tuple[Label, int]]]:
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
