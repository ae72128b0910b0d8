"""People: walking figures of tapered limbs, in three dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segkit.data.scenes.canvas import Canvas
from segkit.data.scenes.classes import ClassId
from segkit.data.scenes.ground import HALF_ROAD
from segkit.data.scenes.textures import to_bytes

__all__ = ["Look", "Person"]

Color = tuple[int, int, int]
Points = npt.NDArray[np.float64]

_TOPS = (
    (178, 48, 44), (40, 66, 118), (212, 206, 194), (52, 54, 60), (196, 150, 56), (62, 104, 76),
    (122, 64, 100), (86, 136, 166), (148, 118, 90), (206, 110, 72), (108, 110, 116), (232, 200, 96),
)  # fmt: skip
_LEGS = ((46, 58, 84), (40, 42, 48), (92, 84, 76), (140, 124, 100), (66, 78, 98), (110, 60, 58))
_SKINS = ((226, 180, 150), (200, 150, 118), (150, 104, 76), (104, 70, 52))
_HAIRS = ((40, 30, 26), (86, 58, 38), (150, 112, 64), (120, 118, 116), (30, 28, 30))
_BAGS = ((96, 58, 40), (44, 46, 52), (170, 62, 58), (68, 92, 120))


@dataclass(frozen=True)
class Look:
    """How somebody looks; lengths in metres."""

    height: float
    girth: float
    top: Color
    legs: Color
    skin: Color
    hair: Color
    bag: Color | None
    skirt: bool
    coat: bool
    hat: bool

    @classmethod
    def random(cls, rng: np.random.Generator) -> Look:
        """Somebody."""
        child = rng.random() < 0.1
        skirt = rng.random() < 0.22
        return cls(
            height=float(rng.uniform(1.15, 1.45) if child else rng.uniform(1.58, 1.92)),
            girth=float(rng.uniform(0.92, 1.22)),
            top=_pick(rng, _TOPS),
            legs=_pick(rng, _LEGS),
            skin=_pick(rng, _SKINS),
            hair=_pick(rng, _HAIRS),
            bag=_pick(rng, _BAGS) if rng.random() < 0.4 else None,
            skirt=bool(skirt),
            coat=bool(not skirt and rng.random() < 0.6),
            hat=bool(rng.random() < 0.15),
        )


@dataclass(frozen=True)
class Person:
    """Somebody who walks from (x, z) with a velocity in metres a second; t in seconds.

    `since` and `until` bound the walk: before and after it they stand.
    """

    look: Look
    x: float
    z: float
    velocity: tuple[float, float]
    ground: float
    phase: float
    since: float = -1e9
    until: float = 1e9

    def place(self, t: float) -> tuple[float, float]:
        """Where they are: x and z."""
        walked = float(np.clip(t, self.since, self.until)) - max(self.since, 0.0)
        return self.x + self.velocity[0] * walked, self.z + self.velocity[1] * walked

    def paint(self, canvas: Canvas, t: float) -> None:
        """Paints the figure and its shadow."""
        x, z = self.place(t)
        if not canvas.sees((x, 1.0, z), margin=1.0):
            return
        speed = float(np.hypot(*self.velocity)) * (self.since <= t <= self.until)
        heading = np.arctan2(self.velocity[0], self.velocity[1] or 1e-9) if speed else self.phase
        forward = np.array([np.sin(heading), 0, np.cos(heading)])
        side = np.array([forward[2], 0, -forward[0]])
        ground = self.ground if abs(x) > HALF_ROAD else 0.0
        origin = np.array([x, ground, z])
        _cast_shadow(canvas, origin, self.look)
        stride = t * 2 * np.pi * speed / (0.8 * self.look.height) + self.phase
        swing = 0.48 * min(speed, 1.4) / 1.4
        figure = _Figure(canvas, self.look, origin, forward, side)
        figure.paint(stride, swing)


class _Figure:
    """One person in one exposure."""

    def __init__(
        self, canvas: Canvas, look: Look, origin: Points, forward: Points, side: Points
    ) -> None:
        self._canvas, self._look = canvas, look
        self._origin, self._forward, self._side = origin, forward, side
        self._depth = float(canvas.camera.to_camera(origin[None])[0, 2])
        self._scale = canvas.camera.focal / max(self._depth, 0.5)  # pixels a metre
        light = canvas.light
        self._limbs: list[tuple[Points, Points, tuple[float, float]]] = []
        self._colors: list[tuple[float, float, float]] = []
        seen = canvas.camera.rotation[0]
        across = float(seen @ light.to_sun)
        self._toward = np.array([np.sign(across) * 0.42, -0.12])
        facing = -canvas.camera.rotation[2]
        lit_side = seen * np.sign(across)
        self._tones = [
            light.on(_unit(normal), 0.92)
            for normal in (
                -lit_side + 0.25 * facing,
                facing + 0.2 * lit_side,
                lit_side + 0.5 * facing,
            )
        ]

    def paint(self, stride: float, swing: float) -> None:
        """Paints the figure at a phase of its stride; swing in radians."""
        look, height = self._look, self._look.height
        steps = [np.sin(stride), np.sin(stride + np.pi)]
        right_is_far = float(self._canvas.camera.rotation[2] @ self._side) > 0
        far, near = (1, -1) if right_is_far else (-1, 1)
        order = [(far, steps[0 if far > 0 else 1]), (near, steps[0 if near > 0 else 1])]
        self._arm(order[0], swing, height)
        for limb in order:
            self._leg(limb, swing, height, stride)
        bag_behind = float(self._canvas.camera.rotation[2] @ self._forward) < 0
        if look.bag and bag_behind:
            self._backpack(height)
        self._torso(height)
        if look.bag and not bag_behind:
            self._backpack(height)
        self._head(height)
        self._arm(order[1], swing, height)
        self._draw()

    def _leg(self, limb: tuple[int, float], swing: float, height: float, stride: float) -> None:
        sign, step = limb
        angle = swing * step
        bend = swing * max(0.0, float(np.cos(stride + (0 if sign > 0 else np.pi)))) * 1.3
        hip = self._at(0.055 * sign * height, 0.50 * height, 0.0)
        knee = hip + 0.245 * height * self._down(angle)
        ankle = knee + 0.235 * height * self._down(angle - bend)
        girth = self._look.girth
        color = self._look.skin if self._look.skirt else self._look.legs
        self._limb(hip, knee, (0.062 * girth * height, 0.043 * height), color)
        self._limb(knee, ankle, (0.043 * height, 0.028 * height), color)
        toe = ankle + 0.09 * height * self._forward - np.array([0, 0.012 * height, 0])
        self._limb(ankle, toe, (0.028 * height, 0.02 * height), (44, 40, 40))

    def _arm(self, limb: tuple[int, float], swing: float, height: float) -> None:
        sign, step = limb
        angle = -0.9 * swing * step
        shoulder = self._at(0.125 * sign * height * self._look.girth, 0.80 * height, 0.0)
        elbow = shoulder + 0.17 * height * self._down(angle)
        hand = elbow + 0.16 * height * self._down(angle + 0.35)
        self._limb(shoulder, elbow, (0.036 * height, 0.03 * height), self._look.top, 0.93)
        self._limb(elbow, hand, (0.029 * height, 0.02 * height), self._look.top, 0.93)
        self._limb(
            hand, hand + 0.03 * height * self._down(angle), (0.022 * height,) * 2, self._look.skin
        )

    def _torso(self, height: float) -> None:
        look = self._look
        # A body is broad from the front and flat from the side.
        broad = abs(float(self._canvas.camera.rotation[0] @ self._side))
        half = (0.075 + 0.055 * broad) * height * look.girth
        chest, hip = self._at(0, 0.755 * height, 0), self._at(0, 0.52 * height, 0)
        self._limb(chest, hip, (half, 0.86 * half), look.top)
        if look.coat:
            self._limb(hip, self._at(0, 0.36 * height, 0), (0.9 * half, 1.05 * half), look.top)
        if look.skirt:
            self._limb(hip, self._at(0, 0.34 * height, 0), (0.85 * half, 1.2 * half), look.legs)

    def _backpack(self, height: float) -> None:
        if self._look.bag:
            upper, lower = self._at(0, 0.76 * height, -0.1), self._at(0, 0.6 * height, -0.12)
            self._limb(upper, lower, (0.075 * height, 0.085 * height), self._look.bag)

    def _head(self, height: float) -> None:
        look = self._look
        neck = self._at(0, 0.82 * height, 0.0)
        head = self._at(0, 0.925 * height, 0.02)
        self._limb(neck, head, (0.032 * height, 0.032 * height), look.skin, 0.85)
        away = float(self._canvas.camera.rotation[2] @ self._forward)
        back = self._at(0, 0.94 * height, -0.035)
        face, hair = (head, 0.055), (back, 0.062)
        for (spot, radius), color in (
            ((face, look.skin), (hair, look.hair))
            if away > 0.1
            else ((hair, look.hair), (face, look.skin))
        ):
            self._limb(spot, spot - np.array([0, 0.03 * height, 0]), (radius * height,) * 2, color)
        crown = self._at(0, 0.965 * height, -0.01)
        color = look.top if look.hat else look.hair
        self._limb(crown, crown, (0.048 * height,) * 2, color)

    def _limb(
        self,
        start: Points,
        end: Points,
        radii: tuple[float, float],
        color: Color,
        dim: float = 1.0,
    ) -> None:
        """A tapered stroke, rounded by a darker and a brighter one."""
        self._limbs.append((start, end, radii))
        self._colors.append((color[0] * dim, color[1] * dim, color[2] * dim))

    def _draw(self) -> None:
        """Paints the limbs in their order."""
        count = len(self._limbs)
        joints = np.array([joint for start, end, _ in self._limbs for joint in (start, end)])
        ends = self._canvas.camera.project(joints)[0].reshape(count, 1, 2, 2)
        radii = np.array([limb[2] for limb in self._limbs])[:, None] * self._scale  # (N, 1, 2)
        light, detailed = self._canvas.light, self._scale > 28
        strokes = ((0.0, 1.0), (0.35, 0.74), (1.0, 0.42)) if detailed else ((0.0, 1.0),)
        shift, share = np.array(strokes).T[:, None, :, None]  # (1, S, 1)
        moved = ends + (self._toward * (shift * radii)[..., None])  # (N, S, 2, 2)
        tones = np.array(self._tones if detailed else self._tones[1:2])
        air = np.exp(-max(self._depth, 0.0) / light.visibility)
        colors = np.array(self._colors)[:, None] * tones * air + light.horizon * (1 - air)
        solid = np.tile(np.arange(len(strokes)) == 0, count)
        self._canvas.capsules(
            moved.reshape(-1, 2, 2),
            (radii * share).reshape(-1, 2),
            to_bytes(colors.reshape(-1, 3)),
            solid=solid,
            class_id=ClassId.PERSON,
        )

    def _at(self, side: float, up: float, forward: float) -> Points:
        return np.asarray(
            self._origin + side * self._side + forward * self._forward + np.array([0, up, 0])
        )

    def _down(self, angle: float) -> Points:
        return np.asarray(np.sin(angle) * self._forward - np.array([0, np.cos(angle), 0]))


def _cast_shadow(canvas: Canvas, origin: Points, look: Look) -> None:
    sun = canvas.light.to_sun
    reach = min(1 / max(float(sun[1]), 0.25), 3.0) * look.height
    level = np.array([-sun[0], 0, -sun[2]])
    across = _unit(np.array([level[2], 0, -level[0]])) * 0.17
    tip = origin + level * reach
    strength = 0.75 * float(np.clip(canvas.light.sun.max(), 0, 0.75))
    if strength > 0.2 and canvas.camera.to_camera(origin[None])[0, 2] < 35:
        canvas.shadow(
            np.array([origin - across, tip - across, tip + across, origin + across]), strength
        )
    turn = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    circle = np.stack([np.cos(turn), 0 * turn, np.sin(turn)], axis=1)
    canvas.shadow(origin + 0.3 * circle, 0.5)


def _unit(vector: Points) -> Points:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))


def _pick(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return colors[int(rng.integers(len(colors)))]
