"""LabelMap: class id <-> class name <-> RGB colour.

Class ids are the positions in the map: the background is 0, the others follow in file order.
Pixels that must not count carry IGNORE_ID and belong to no class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segkit.errors import LabelMapError

__all__ = ["IGNORE_ID", "Label", "LabelMap", "voc_color"]

IGNORE_ID = 255
BACKGROUND = "background"
HEADER = "# label:color_rgb:parts:actions"

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Label:
    """A class name and its RGB colour, 0..255 each."""

    name: str
    color: Color


@dataclass(frozen=True)
class LabelMap:
    """The classes of a data set, in class id order.

    Args:
        labels: One label a class; the position is the class id. At most 255.
        ignore: A label whose pixels become IGNORE_ID, or None.

    Raises:
        LabelMapError: A name or a colour appears twice, or there are more than 255 classes.
    """

    labels: tuple[Label, ...]
    ignore: Label | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.labels) <= IGNORE_ID:
            raise LabelMapError(
                f"the label map has {len(self.labels)} classes",
                expected=f"1 to {IGNORE_ID} (masks are 8-bit and {IGNORE_ID} means ignored)",
            )
        everything = self.labels + ((self.ignore,) if self.ignore else ())
        for kind, values in (
            ("name", Counter(label.name for label in everything)),
            ("colour", Counter(str(label.color) for label in everything)),
        ):
            value, count = values.most_common(1)[0]
            if count > 1:
                raise LabelMapError(
                    f"the label map gives the {kind} '{value}' to {count} labels",
                    expected=f"every label with a {kind} of its own",
                    next_step="rename or recolour one of them and export again",
                )

    @property
    def num_classes(self) -> int:
        """Number of classes, with the background."""
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in class id order."""
        return tuple(label.name for label in self.labels)

    def palette(self) -> npt.NDArray[np.uint8]:
        """The colours as a lookup table: uint8, (256, 3), RGB; black where no class is."""
        table = np.zeros((256, 3), np.uint8)
        table[: self.num_classes] = [label.color for label in self.labels]
        if self.ignore:
            table[IGNORE_ID] = self.ignore.color
        return table

    def ids_from_colors(
        self, colors: npt.NDArray[np.uint8], *, source: str
    ) -> npt.NDArray[np.uint8]:
        """Turns a mask of label colours into class ids, comparing the full RGB triple.

        Args:
            colors: uint8, (H, W, 3), RGB.
            source: Where the mask came from, for the error message.

        Returns:
            uint8, (H, W), class ids and IGNORE_ID.

        Raises:
            LabelMapError: A colour is not in the map; the message names file, colour and count.
        """
        # Colour -> class id + 1; 0 is undeclared. Of the 2**24 entries only the pages of colours
        # that occur ever become memory.
        table = np.zeros(1 << 24, np.uint16)
        for id_, label in enumerate(self.labels):
            table[_code(label.color)] = id_ + 1
        if self.ignore:
            table[_code(self.ignore.color)] = IGNORE_ID + 1

        codes = colors[..., 0].astype(np.uint32)
        for channel in (1, 2):
            codes <<= 8
            codes |= colors[..., channel]
        ids = table[codes]
        unknown = codes[ids == 0]
        if unknown.size:
            found, counts = np.unique(unknown, return_counts=True)
            worst = int(counts.argmax())
            color = _color(int(found[worst]))
            raise LabelMapError(
                f"mask '{source}' has {counts[worst]:,} pixels of the colour {color}, "
                f"which labelmap.txt does not declare ({len(found)} undeclared colours in all)",
                expected="one of " + ", ".join(f"{x.name}={x.color}" for x in self.labels[:20]),
                next_step="add the label to labelmap.txt, or export the masks without "
                "anti-aliasing or JPEG compression",
            )
        return (ids - 1).astype(np.uint8)

    @classmethod
    def from_names(cls, names: Iterable[str]) -> LabelMap:
        """A map for bare class names, in the colours of Pascal VOC."""
        return cls(tuple(Label(name, voc_color(id_)) for id_, name in enumerate(names)))

    @classmethod
    def read(
        cls, path: Path, *, ignore: str | None = None, background: str | None = None
    ) -> LabelMap:
        """Reads CVAT's labelmap.txt, see `parse`."""
        if not path.is_file():
            raise LabelMapError(
                f"'{path}' does not exist",
                expected="the labelmap.txt that CVAT writes into a 'Segmentation mask 1.1' export",
                next_step="export the task again in that format, or copy its labelmap.txt there",
            )
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as err:
            raise LabelMapError(
                f"'{path}' is not UTF-8 text", expected=f"lines of the form {HEADER[2:]}"
            ) from err
        return cls.parse(text, ignore=ignore, background=background, source=str(path))

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        ignore: str | None = None,
        background: str | None = None,
        source: str = "labelmap.txt",
    ) -> LabelMap:
        """Reads the text of CVAT's labelmap.txt.

        The background gets id 0 wherever it stands: the label named `background` if given, else
        the one called "background" in any case, else the black one, else a new black label. The
        others follow in file order. (CVAT and datumaro rank name and colour differently, and
        datumaro sorts the lines by name, so a line number never is a class id.)

        Args:
            text: Lines of `name:r,g,b:parts:actions`; blank lines and # lines are skipped.
            ignore: Name of the label whose pixels become IGNORE_ID. Where it is the background
                itself, there is no background class and the first other label is id 0.
            background: Name of the label that becomes id 0.
            source: Where the text came from, for error messages.

        Raises:
            LabelMapError: A line is malformed, or a named label does not exist.
        """
        labels = _parse_lines(text, source)
        by_name = {label.name: label for label in labels}
        for flag, name in (("ignore label", ignore), ("background label", background)):
            if name is not None and name not in by_name:
                raise LabelMapError(
                    f"the {flag} '{name}' is not in '{source}'",
                    expected="one of " + ", ".join(by_name),
                )
        if ignore is not None and ignore == background:
            raise LabelMapError(
                f"'{ignore}' of '{source}' is to be ignored and to be the background",
                expected="two different labels, or only one of the two flags",
            )
        ignored = by_name[ignore] if ignore is not None else None
        first = _find_background(labels, background)
        rest = tuple(x for x in labels if x is not ignored and x is not first)
        return cls(rest if first is ignored else (first, *rest), ignored)

    @classmethod
    def load(cls, text: str, *, source: str = "labelmap.txt") -> LabelMap:
        """Reads what `dump` wrote: the lines stand in class id order, the background is not moved.

        Raises:
            LabelMapError: A line is malformed.
        """
        return cls(tuple(_parse_lines(text, source)))

    @classmethod
    def builtin(cls, name: str) -> LabelMap:
        """A label map that comes with segkit: ade20k, camvid, camvid32, cityscapes or voc.

        Raises:
            LabelMapError: There is none of that name.
        """
        folder = resources.files("segkit") / "label_sets"
        known = sorted(file.name.removesuffix(".txt") for file in folder.iterdir())
        if name not in known:
            raise LabelMapError(
                f"there is no built-in label map '{name}'", expected="one of " + ", ".join(known)
            )
        text = (folder / f"{name}.txt").read_text(encoding="utf-8")
        return cls.load(text, source=f"{name}.txt")

    def dump(self) -> str:
        """The text of a labelmap.txt whose lines stand in class id order."""
        lines = [HEADER]
        lines += [f"{x.name}:{','.join(map(str, x.color))}::" for x in self.labels]
        return "\n".join(lines) + "\n"


def voc_color(class_id: int) -> Color:
    """The colour of Pascal VOC's colour map for a class id (VOC devkit, `VOClabelcolormap`)."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= ((class_id >> (3 * bit + channel)) & 1) << (7 - bit)
    return channels[0], channels[1], channels[2]


def _parse_lines(text: str, source: str) -> list[Label]:
    labels: list[Label] = []
    colorless: list[str] = []
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = [field.strip() for field in line.split(":")]
        if len(fields) != 4 or not fields[0]:
            raise LabelMapError(
                f"'{source}' line {number} is {line!r}",
                expected="four fields, name:r,g,b:parts:actions, as in 'road:128,64,128::'",
                next_step="a name must not contain ':'; rename the label in CVAT",
            )
        if not fields[1]:
            colorless.append(fields[0])
            labels.append(Label(fields[0], (-1, -1, -len(labels))))
            continue
        labels.append(Label(fields[0], _parse_color(fields[1], f"'{source}' line {number}")))
    names = [label.name for label in labels]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise LabelMapError(
            f"'{source}' defines the label '{twice[0]}' twice", expected="every name once"
        )
    if not labels:
        raise LabelMapError(
            f"'{source}' defines no label", expected="lines such as 'road:128,64,128::'"
        )
    if colorless:
        labels = _fill_colors(labels, set(colorless))
    return labels


def _fill_colors(labels: list[Label], colorless: set[str]) -> list[Label]:
    """Gives labels without a colour the first colours of Pascal VOC that nobody uses.

    Black is for the background alone: a black label would be taken for it.
    """
    used = {label.color for label in labels}
    free = iter([color for color in map(voc_color, range(1, 256)) if color not in used])
    black_is_free = (0, 0, 0) not in used
    filled = []
    for label in labels:
        if label.name not in colorless:
            filled.append(label)
        elif label.name.lower() == BACKGROUND and black_is_free:
            filled.append(Label(label.name, (0, 0, 0)))
            black_is_free = False
        else:
            filled.append(Label(label.name, next(free)))
    return filled


def _parse_color(text: str, where: str) -> Color:
    try:
        red, green, blue = (int(part) for part in text.split(","))
    except ValueError:
        red = green = blue = -1
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise LabelMapError(
            f"{where} has the colour {text!r}", expected="three numbers 0..255, as in 128,64,128"
        )
    return red, green, blue


def _find_background(labels: list[Label], background: str | None) -> Label:
    for label in labels:
        if label.name == background:
            return label
    for label in labels:
        if label.name.lower() == BACKGROUND:
            return label
    for label in labels:
        if label.color == (0, 0, 0):
            return label
    return Label(BACKGROUND, (0, 0, 0))


def _code(color: Color) -> int:
    return (color[0] << 16) | (color[1] << 8) | color[2]


def _color(code: int) -> Color:
    return code >> 16, (code >> 8) & 255, code & 255
