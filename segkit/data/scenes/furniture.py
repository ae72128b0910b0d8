"""What else stands on a pavement: columns with posters, containers, hoardings, lamps, signs.

All of it is of the class background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segkit.data.scenes.canvas import Canvas
from segkit.data.scenes.classes import ClassId
from segkit.data.scenes.solids import Frame

__all__ = ["KINDS", "Furniture"]

Color = tuple[int, int, int]
KINDS = ("column", "container", "hoarding", "cabinet", "lamp", "sign")
_POSTERS = (
    (214, 74, 54), (240, 196, 60), (44, 110, 150), (238, 234, 222), (60, 130, 96),
    (136, 74, 140), (30, 40, 60), (236, 140, 60),
)  # fmt: skip
_DRUMS = ((60, 104, 70), (52, 84, 128), (186, 150, 50), (96, 98, 100))
_CLASS = ClassId.BACKGROUND


@dataclass(frozen=True)
class Furniture:
    """One thing at (x, z); `seed` decides how it looks."""

    kind: str
    x: float
    z: float
    seed: int

    def place(self, t: float) -> tuple[float, float]:
        """Where it stands: x and z."""
        return self.x, self.z

    def paint(self, canvas: Canvas, t: float) -> None:
        """Paints it with its shadow."""
        if not canvas.sees((self.x, 1.0, self.z), margin=2.5):
            return
        rng = np.random.default_rng(self.seed)
        frame = Frame(canvas, (self.x, 0.13, self.z), 0.0)
        {
            "column": _column,
            "container": _container,
            "hoarding": _hoarding,
            "works": _works,
            "cabinet": _cabinet,
            "lamp": _lamp,
            "sign": _sign,
        }[self.kind](frame, rng)


def _column(frame: Frame, rng: np.random.Generator) -> None:
    frame.shadow((0.6, 0.6), 2.0)
    posters = [_pick(rng, _POSTERS) for _ in range(5) for _ in range(1)]
    strips = [color for color in posters for _ in range(4)]
    frame.column(0.0, 0.55, (0.66, 0.62), [(84, 86, 84)], _CLASS)
    frame.column(0.55, 1.75, (0.60, 0.60), strips, _CLASS)
    other = [_pick(rng, _POSTERS) for _ in range(4)]
    frame.column(1.78, 2.75, (0.60, 0.60), [c for c in other for _ in range(5)], _CLASS)
    frame.column(2.75, 2.95, (0.72, 0.72), [(74, 92, 82)], _CLASS)
    frame.column(2.95, 3.35, (0.72, 0.12), [(88, 110, 96)], _CLASS)


def _container(frame: Frame, rng: np.random.Generator) -> None:
    frame.shadow((0.62, 1.15), 1.2)
    for index in range(2):
        color, z = _pick(rng, _DRUMS), 1.15 * (1 - 2 * index) / 2
        if frame.canvas.camera.position[2] > frame.origin[2]:
            z = -z
        frame.box((-0.55, 0.10, z - 0.5), (0.55, 1.20, z + 0.5), color, _CLASS)
        frame.box((-0.58, 1.20, z - 0.53), (0.58, 1.38, z + 0.53), _scaled(color, 0.7), _CLASS)
        label = [(-0.56, 0.6, z - 0.2), (-0.56, 0.6, z + 0.2), (-0.56, 0.95, z + 0.2)]
        frame.face([*label, (-0.56, 0.95, z - 0.2)], (230, 228, 214), (-1, 0, 0), _CLASS)
        front = [(-0.25, 0.6, z - 0.51), (0.25, 0.6, z - 0.51), (0.25, 0.95, z - 0.51)]
        frame.face([*front, (-0.25, 0.95, z - 0.51)], (230, 228, 214), (0, 0, -1), _CLASS)


def _hoarding(frame: Frame, rng: np.random.Generator) -> None:
    frame.shadow((0.12, 1.9), 1.1)
    base = (236, 232, 224)
    frame.box((-0.06, 0.12, -1.9), (0.06, 1.15, 1.9), base, _CLASS)
    for normal, x in (((-1, 0, 0), -0.07), ((1, 0, 0), 0.07)):
        for z in np.arange(-1.9, 1.6, 0.7):
            stripe = [(x, 0.3, z), (x, 0.3, z + 0.35), (x, 1.0, z + 0.65), (x, 1.0, z + 0.3)]
            frame.face(stripe, (206, 52, 40), normal, _CLASS)
    for z in (-1.7, 0.0, 1.7):
        frame.box((-0.18, 0.0, z - 0.09), (0.18, 0.14, z + 0.09), (70, 70, 72), _CLASS)


def _works(frame: Frame, rng: np.random.Generator) -> None:
    """A dug-up place with boards around it."""
    frame.shadow((0.9, 1.9), 1.1)
    for z in (1.85, -1.85):
        frame.box((-0.85, 0.12, z - 0.05), (0.85, 1.1, z + 0.05), (238, 234, 226), _CLASS)
        face = z - 0.06
        for x in np.arange(-0.85, 0.5, 0.55):
            stripe = [(x, 0.2, face), (x + 0.28, 0.2, face), (x + 0.45, 1.0, face)]
            frame.face([*stripe, (x + 0.17, 1.0, face)], (206, 52, 40), (0, 0, -1), _CLASS)
        if z > 0:
            frame.box((-0.6, 0.0, -1.4), (0.6, 0.75, 1.4), (150, 116, 84), _CLASS)  # the spoil
            for x in (-0.85, 0.85):
                frame.box((x - 0.05, 0.12, -1.8), (x + 0.05, 1.1, 1.8), (238, 234, 226), _CLASS)


def _cabinet(frame: Frame, rng: np.random.Generator) -> None:
    """A news-stand."""
    frame.shadow((0.75, 0.95), 2.2)
    color = _pick(rng, ((66, 96, 84), (118, 66, 54), (62, 80, 112), (150, 140, 120)))
    frame.box((-0.75, 0.0, -0.95), (0.75, 2.1, 0.95), color, _CLASS)
    for index in range(4) if frame.distance < 40 else ():
        for level in range(3):
            z, y = -0.82 + 0.42 * index, 0.55 + 0.5 * level
            for x, normal in ((-0.76, (-1, 0, 0)), (0.76, (1, 0, 0))):
                sheet = [(x, y, z), (x, y, z + 0.34), (x, y + 0.42, z + 0.34), (x, y + 0.42, z)]
                frame.face(sheet, _pick(rng, _POSTERS), normal, _CLASS)
    for x in (-0.6, 0.08):
        sheet = [(x, 0.7, -0.96), (x + 0.5, 0.7, -0.96), (x + 0.5, 1.8, -0.96), (x, 1.8, -0.96)]
        frame.face(sheet, _pick(rng, _POSTERS), (0, 0, -1), _CLASS)
    frame.box((-0.95, 2.1, -1.15), (0.95, 2.32, 1.15), _scaled(color, 0.7), _CLASS)


def _lamp(frame: Frame, rng: np.random.Generator) -> None:
    frame.shadow((0.16, 0.16), 3.0, 0.5)
    iron = [(58, 64, 62)]
    frame.column(0.0, 0.9, (0.17, 0.13), iron, _CLASS)
    frame.column(0.9, 4.6, (0.09, 0.07), iron, _CLASS)
    frame.column(4.6, 5.2, (0.12, 0.26), [(240, 232, 204)], _CLASS)
    frame.column(5.2, 5.45, (0.30, 0.05), iron, _CLASS)


def _sign(frame: Frame, rng: np.random.Generator) -> None:
    frame.shadow((0.1, 0.1), 2.0, 0.4)
    frame.column(0.0, 2.2, (0.05, 0.05), [(150, 152, 154)], _CLASS)
    rim, inner = (
        ((196, 40, 36), (240, 238, 232)) if rng.random() < 0.6 else ((240, 240, 236), (36, 84, 160))
    )
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    for radius, z, color in ((0.42, -0.06, rim), (0.31, -0.065, inner)):
        disc = [(radius * np.sin(a), 2.45 + radius * np.cos(a), z) for a in turn]
        frame.face(disc, color, (0, 0, -1), _CLASS)


def _pick(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return colors[int(rng.integers(len(colors)))]


def _scaled(color: Color, factor: float) -> Color:
    red, green, blue = color
    return round(red * factor), round(green * factor), round(blue * factor)
