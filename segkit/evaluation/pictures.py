"""One picture an image: image, truth, prediction and error with captions and the classes in it."""

from __future__ import annotations

import heapq
import itertools
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from segkit.evaluation.comparison import ERROR_COLORS, GAP, comparison_row
from segkit.evaluation.measure import Example
from segkit.evaluation.metrics import ConfusionMatrix
from segkit.evaluation.scores import Scores
from segkit.labels import LabelMap
from segkit.runs import replacing

__all__ = ["Pictures", "captioned"]

Image = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

PAPER, INK, EDGE = (255, 255, 255), (29, 39, 51), (150, 158, 168)
SMALLEST_FONT = 11  # pixels
SMALLEST_WIDTH = 200  # pixels of one picture, so that its caption fits


def captioned(
    example: Example, prediction: Image, matrix: ConfusionMatrix, *, labels: LabelMap
) -> Image:
    """The comparison with a caption over each picture and, below, the IoU of each class in it.

    Small images are shown as many times larger as it takes to read the captions.

    Args:
        example: Image and truth.
        prediction: Class ids, uint8, (H, W).
        matrix: Of this image.
        labels: Names and colours of the classes.

    Returns:
        uint8, (H', W', 3), RGB.
    """
    row = comparison_row(example.image, example.truth, prediction, labels=labels)
    larger = -(-SMALLEST_WIDTH // example.image.shape[1])
    row = row.repeat(larger, axis=0).repeat(larger, axis=1)
    width = example.image.shape[1] * larger
    font: Any = ImageFont.load_default(max(SMALLEST_FONT, width // 32))
    line = round(font.size * 1.7)
    shown: list[tuple[str, Color | None]] = [
        (f"{label.name} {iou:.2f}", label.color)
        for label, iou in zip(labels.labels, matrix.class_iou, strict=True)
        if np.isfinite(iou)
    ]
    error: list[tuple[str, Color | None]] = [("error:", None), *ERROR_COLORS.items()]
    captions: list[list[tuple[str, Color | None]]] = [
        [(f"image  {example.stem}", None)],
        [("truth", None)],
        [(f"prediction, mean IoU {matrix.mean_iou:.3f}", None)],
        error,
    ]
    legend = _wrapped(shown, font, row.shape[1])
    height = line + row.shape[0] + line * len(legend)
    sheet = PillowImage.new("RGB", (row.shape[1], height), PAPER)
    sheet.paste(PillowImage.fromarray(row), (0, line))
    draw = ImageDraw.Draw(sheet)
    for column, items in enumerate(captions):
        items = [(_fitted(text, font, width), color) for text, color in items]
        _write(draw, items, font, (column * (width + GAP * larger), 0))
    for number, items in enumerate(legend):
        _write(draw, items, font, (0, line + row.shape[0] + number * line))
    return np.asarray(sheet)


class Pictures:
    """Writes the pictures of a split, `<stem>.png` each. Threads may use it at the same time.

    Args:
        folder: Where to write.
        labels: Names and colours of the classes.
        count: Only so many, those of the lowest mean IoU; None: all.
    """

    def __init__(self, folder: Path, labels: LabelMap, *, count: int | None = None) -> None:
        self._folder, self._labels, self._count = folder, labels, count
        self._worst: list[tuple[float, int, Example, Image, Scores]] = []
        self._number = itertools.count()
        self._lock = threading.Lock()
        self.written = 0

    def add(self, example: Example, prediction: Image, scores: Scores) -> None:
        """Takes one image, its prediction and its scores."""
        if self._count is None:
            self._write(example, prediction, scores)
            return
        # The heap's first is the best of the worst. An image without a score is nobody's worst.
        goodness = np.nan_to_num(scores.matrix.mean_iou, nan=2.0)
        with self._lock:
            entry = (-float(goodness), next(self._number), example, prediction, scores)
            heapq.heappush(self._worst, entry)
            if len(self._worst) > self._count:
                heapq.heappop(self._worst)

    def finish(self) -> None:
        """Writes what was kept until it was known to be among the worst."""
        for _, _, example, prediction, scores in self._worst:
            self._write(example, prediction, scores)

    def _write(self, example: Example, prediction: Image, scores: Scores) -> None:
        picture = captioned(example, prediction, scores.matrix, labels=self._labels)
        path = self._folder / f"{example.stem}.png"  # a stem may name folders
        path.parent.mkdir(parents=True, exist_ok=True)
        data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        with replacing(path) as incoming:
            incoming.write_bytes(data.tobytes())
        with self._lock:
            self.written += 1


Items = list[tuple[str, Color | None]]


def _item_width(text: str, color: Color | None, font: Any) -> int:
    return round(font.getlength(text) + font.size * (1.0 if color is None else 2.1))


def _fitted(text: str, font: Any, width: int) -> str:
    """The text, its end cut off where there is no room for it."""
    if _item_width(text, None, font) <= width:
        return text
    while text and _item_width(f"{text} ...", None, font) > width:
        text = text[:-1]
    return f"{text} ..."


def _wrapped(items: Items, font: Any, width: int) -> list[Items]:
    """The items in lines that fit the width."""
    lines: list[Items] = [[]]
    left = font.size
    for text, color in items:
        needed = _item_width(text, color, font)
        if lines[-1] and left + needed > width:
            lines.append([])
            left = font.size
        lines[-1].append((text, color))
        left += needed
    return lines


def _write(draw: Any, items: Items, font: Any, corner: tuple[int, int]) -> None:
    """Writes items in one line, a swatch before those that have a colour."""
    x, top = corner
    x += font.size // 2
    middle = top + round(font.size * 0.85)
    for text, color in items:
        start = x
        if color is not None:
            half = round(font.size * 0.4)
            draw.rectangle(
                (x, middle - half, x + 2 * half, middle + half), fill=color, outline=EDGE
            )
            start = x + round(font.size * 1.2)
        draw.text((start, middle), text, fill=INK, font=font, anchor="lm")
        x += _item_width(text, color, font)
