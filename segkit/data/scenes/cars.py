"""Cars: lit bodies with a cabin, windows, wheels and lamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segkit.data.scenes.canvas import Canvas
from segkit.data.scenes.classes import ClassId
from segkit.data.scenes.solids import Frame

__all__ = ["Body", "Car"]

Color = tuple[int, int, int]
Points = npt.NDArray[np.float64]
Outline = list[tuple[float, float, float]]
_PAINTS = (
    (232, 232, 228), (178, 182, 186), (92, 98, 104), (34, 36, 40), (176, 34, 32), (32, 64, 124),
    (54, 96, 84), (216, 164, 42), (120, 40, 54), (150, 168, 180), (196, 188, 170), (222, 96, 40),
)  # fmt: skip
_CLASS = ClassId.CAR


@dataclass(frozen=True)
class Body:
    """The shape of a car, metres; `cabin` are z of windscreen foot, roof (two), rear foot."""

    length: float
    width: float
    belt: float
    roof: float
    cabin: tuple[float, float, float, float]
    paint: Color

    @classmethod
    def random(cls, rng: np.random.Generator) -> Body:
        """A hatchback, a saloon, an off-roader or a van."""
        kind = rng.choice(["hatch", "saloon", "tall", "van"], p=[0.4, 0.27, 0.22, 0.11])
        length, width, belt, roof, cabin = {
            "hatch": (4.0, 1.74, 0.92, 1.46, (0.98, 0.30, -1.45, -1.90)),
            "saloon": (4.55, 1.80, 0.92, 1.43, (1.00, 0.28, -0.95, -1.60)),
            "tall": (4.4, 1.86, 1.05, 1.68, (1.10, 0.52, -1.80, -2.12)),
            "van": (4.9, 1.94, 1.10, 2.02, (1.65, 1.10, -2.36, -2.42)),
        }[str(kind)]
        paint = _PAINTS[int(rng.integers(len(_PAINTS)))]
        return cls(length, width, belt, roof * float(rng.uniform(0.98, 1.04)), cabin, paint)


@dataclass(frozen=True)
class Car:
    """A car at (x, z) that drives with `speed` metres a second along the street."""

    body: Body
    x: float
    z: float
    speed: float
    backwards: bool
    braking: bool = False

    def place(self, t: float) -> tuple[float, float]:
        """Where it is: x and z."""
        return self.x, self.z + self.speed * t

    def paint(self, canvas: Canvas, t: float) -> None:
        """Paints it with its shadow."""
        x, z = self.place(t)
        if not canvas.sees((x, 0.8, z), margin=3.5):
            return
        frame = Frame(canvas, (x, 0.0, z), np.pi if self.backwards else 0.0)
        frame.shadow((self.body.width / 2, self.body.length / 2), 1.1, 0.72)
        painter = _Painter(frame, self.body)
        painter.hull()
        painter.ends(self.braking)
        painter.wheels()
        painter.cabin()


class _Painter:
    """Paints the parts of a car, in its own frame."""

    def __init__(self, frame: Frame, body: Body) -> None:
        self._frame, self._body = frame, body
        self._half, self._end = body.width / 2, body.length / 2
        canvas = frame.canvas
        self._close = frame.distance < 30  # farther away, small parts are below a pixel
        self._sky = 0.5 * (canvas.light.zenith + canvas.light.horizon)
        self._from = frame.world(np.array([[0.0, 0.8, 0.0]]))[0] - canvas.camera.position
        self._from /= max(float(np.linalg.norm(self._from)), 1e-9)

    def hull(self) -> None:
        """The body below the windows: sides in three bands, hood, tail."""
        half, end, belt = self._half, self._end, self._body.belt
        cabin = self._body.cabin
        for sign in (-1, 1):
            wide, inner = sign * half, sign * (half - 0.07)
            bands = (
                (0.20, 0.36, wide * 0.97, wide, (sign, -0.35, 0), 0.55),
                (0.36, 0.66, wide, wide, (sign, 0.05, 0), 0.96),
                (0.66, belt, wide, inner, (sign, 0.45, 0), 1.08),
            )
            for low, high, x_low, x_high, normal, tone in bands:
                shape = [(x_low, low, -end), (x_low, low, end), (x_high, high, end - 0.12)]
                shape.append((x_high, high, -end + 0.06))
                if high == belt:  # the hood slopes down to the nose
                    shape[2:] = [
                        (x_high, 0.74, end - 0.08),
                        (x_high, belt, cabin[0]),
                        (x_high, belt, -end + 0.06),
                    ]
                self._face(shape, normal, tone)
            self._line([(wide, 0.55, -end + 0.9), (wide, 0.55, end - 0.9)], sign)
        inner = half - 0.07
        self._face(_across(inner, (0.74, end - 0.08), (belt, cabin[0])), (0, 1, 0.3), 1.0)
        self._face(_across(inner, (belt, cabin[3]), (belt, -end + 0.06)), (0, 1, 0), 1.0)
        for sign in (-1, 1) if self._close else ():  # rounded edges of the hood
            edge = [(sign * inner, 0.74, end - 0.08), (sign * inner, belt, cabin[0])]
            edge += [
                (sign * (inner - 0.12), belt + 0.03, cabin[0]),
                (sign * (inner - 0.12), 0.77, end - 0.1),
            ]
            self._face(edge, (sign * 0.6, 1, 0.2), 1.1)

    def ends(self, braking: bool) -> None:
        """Nose and tail: bumper, grille, lamps, plate."""
        half, end, belt = self._half, self._end, self._body.belt
        for sign in (1, -1):
            z, normal, top = sign * end, (0, 0.05, sign), 0.74 if sign > 0 else belt
            over = sign * (end - 0.06)
            self._face(_panel(half * 0.97, 0.20, 0.42, z), normal, 0.6)
            self._face(_panel(half, 0.42, 0.66, z), normal, 0.95)
            upper = _panel(half - 0.03, 0.66, top, z)
            upper[2:] = [(half - 0.08, top, over), (-half + 0.08, top, over)]
            self._face(upper, (0, 0.35, sign), 1.05)
            self._plain(_panel(0.26, 0.40, 0.50, z * 1.001), (226, 224, 208), normal)
            if sign > 0:
                self._plain(_panel(half * 0.55, 0.50, 0.64, z * 1.001), (30, 32, 36), normal)
                lamp, lamps = (246, 244, 226), (0.54, 0.68)
            else:
                lamp, lamps = (
                    ((255, 46, 34), (0.62, 0.84)) if braking else ((168, 22, 24), (0.62, 0.82))
                )
            for x in (-half + 0.24, half - 0.24):
                shape = [(x + px, py, pz * 1.002) for px, py, pz in _panel(0.19, *lamps, z)]
                self._plain(shape, lamp, normal, glow=1.25 if sign > 0 or braking else 1.0)

    def wheels(self) -> None:
        """Arches, tyres and rims on both sides."""
        turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        for sign in (-1, 1):
            for z in (self._end - 0.82, -self._end + 0.80):
                for radius, x, color in (
                    (0.385, 1.000, (24, 24, 27)),
                    (0.325, 1.005, (38, 38, 41)),
                    (0.215, 1.010, (158, 160, 164)),
                    (0.165, 1.012, (92, 94, 98)),
                    (0.060, 1.014, (176, 178, 182)),
                )[: 5 if self._close else 3]:
                    rim = [
                        (sign * self._half * x, 0.325 + radius * np.cos(a), z + radius * np.sin(a))
                        for a in turn
                    ]
                    self._plain(rim, color, (sign, 0, 0))

    def cabin(self) -> None:
        """Pillars and roof, then the glass into them."""
        low, high = self._body.belt, self._body.roof
        foot, front, back, rear = self._body.cabin
        wide, narrow = self._half - 0.08, (self._half - 0.08) * 0.84
        ends = (
            ((low, foot), (high, front), (0, 0.8, 0.9)),
            ((low, rear), (high, back), (0, 0.5, -0.9)),
        )
        for (y0, z0), (y1, z1), normal in ends:
            pane = [(-wide, y0, z0), (wide, y0, z0), (narrow, y1, z1), (-narrow, y1, z1)]
            self._face(pane, normal, 0.85)
            self._glass(_inset(pane, 0.09), normal)
        for sign in (-1, 1):
            normal = (sign, 0.3, 0)
            pane = [(sign * wide, low, foot), (sign * wide, low, rear)]
            pane += [(sign * narrow, high, back), (sign * narrow, high, front)]
            self._face(pane, normal, 0.95)
            glass = _inset(pane, 0.10)
            self._glass(glass, normal)
            pillar = 0.5 * (foot + rear) - 0.05
            post = [(sign * wide, low, pillar), (sign * narrow, high, pillar)]
            post += [(sign * narrow, high, pillar - 0.09), (sign * wide, low, pillar - 0.09)]
            self._plain(post, (30, 30, 34), normal)
        roof = _across(narrow, (high, front), (high, back))
        self._face(roof, (0, 1, 0), 1.0)
        for sign in (-1, 1) if self._close else ():  # mirrors
            x = sign * (self._half + 0.06)
            self._frame.box(
                (x - 0.09, low + 0.02, foot - 0.30),
                (x + 0.09, low + 0.17, foot - 0.18),
                self._body.paint,
                _CLASS,
            )

    def _face(self, points: Outline, normal: Sequence[float], tone: float) -> None:
        """Car paint: lit from its own colour, and glossy."""
        if not self._frame.faces_camera(points[0], normal):
            return
        turned = self._frame.direction(normal)
        light = self._frame.canvas.light
        base = np.asarray(self._body.paint) * light.on(turned, 0.9) * tone
        self._paint(points, base + self._gloss(turned, 0.16))

    def _glass(self, points: Points, normal: Sequence[float]) -> None:
        if not self._frame.faces_camera(points[0].tolist(), normal):
            return
        corners = points
        gloss = self._gloss(self._frame.direction(normal), 0.42)
        self._paint(corners, np.array([26, 32, 38]) + gloss)
        # The upper half mirrors more of the sky; corners go round from the lower edge.
        low, high = 0.45 * corners[[3, 2]] + 0.55 * corners[[0, 1]], corners[[2, 3]]
        self._paint(np.concatenate([low, high]), np.array([40, 47, 54]) + 1.25 * gloss)

    def _gloss(self, normal: Points, share: float) -> Points:
        mirrored = self._from - 2 * float(self._from @ normal) * normal
        grazing = (1 - abs(float(self._from @ normal))) ** 3
        above = float(np.clip(mirrored[1] * 1.5 + 0.45, 0, 1))
        light = self._frame.canvas.light
        around = self._sky * above + np.array([64, 62, 60]) * (1 - above)
        spark = max(0.0, float(mirrored @ light.to_sun)) ** 24
        return np.asarray(around * (share + 0.3 * grazing) + spark * 120 * light.sun)

    def _plain(
        self, points: Outline, color: Color, normal: Sequence[float], glow: float = 0.0
    ) -> None:
        if self._frame.faces_camera(points[0], normal):
            lit = self._frame.canvas.light.on(self._frame.direction(normal), 0.8)
            self._paint(points, np.asarray(color) * np.maximum(lit, 0.75 * glow))

    def _line(self, ends: Outline, sign: int) -> None:
        """The crease along the doors."""
        (x, y, from_z), (_, _, to_z) = ends
        crease = [(x, y, from_z), (x, y, to_z), (x, y + 0.03, to_z), (x, y + 0.03, from_z)]
        self._plain(crease, _darker(self._body.paint), (sign, 0, 0))

    def _paint(self, corners: npt.ArrayLike, color: Points) -> None:
        self._frame.canvas.face(self._frame.world(corners), color, _CLASS)


def _across(half: float, first: tuple[float, float], second: tuple[float, float]) -> Outline:
    (y0, z0), (y1, z1) = first, second
    return [(-half, y0, z0), (half, y0, z0), (half, y1, z1), (-half, y1, z1)]


def _panel(half: float, low: float, high: float, z: float) -> Outline:
    return [(-half, low, z), (half, low, z), (half, high, z), (-half, high, z)]


def _inset(pane: Outline, share: float) -> Points:
    corners = np.array(pane)
    return np.asarray(corners + (corners.mean(axis=0) - corners) * 2 * share)


def _darker(color: Color) -> Color:
    red, green, blue = color
    return round(red * 0.6), round(green * 0.6), round(blue * 0.6)
