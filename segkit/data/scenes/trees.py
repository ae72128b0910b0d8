"""Trees: pictures of a trunk and a lit crown of leaf clusters, stood up in the street."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segkit.data.scenes.canvas import Canvas
from segkit.data.scenes.classes import ClassId
from segkit.data.scenes.light import Light
from segkit.data.scenes.textures import Floats, Image, fractal, noise, pyramid

__all__ = ["Tree", "grow"]

Floats64 = npt.NDArray[np.float64]
_HEIGHT, _WIDTH = 384, 320
_GREENS = (
    (86, 116, 48),
    (104, 128, 58),
    (70, 104, 56),
    (118, 130, 62),
    (164, 130, 54),
    (150, 92, 48),
)


def grow(rng: np.random.Generator, light: Light) -> list[Image]:
    """A picture of a tree, uint8, (384, 320, 4), RGBA, and its halvings."""
    shape = (_HEIGHT, _WIDTH)
    paper = np.zeros((*shape, 4), np.float32)
    paper[..., :3] = np.array(_GREENS[rng.integers(len(_GREENS))]) * 0.4
    crown = rng.uniform(0.30, 0.40), rng.uniform(0.26, 0.34)  # half width, half height
    middle = np.array([0.5 * _WIDTH, (0.03 + crown[1]) * _HEIGHT])
    _trunk(paper, rng, light, float(middle[1]))
    _crown(paper, rng, light, middle, (crown[0] * _WIDTH, crown[1] * _HEIGHT))
    return pyramid(np.clip(paper, 0, 255).astype(np.uint8), 6)


def _trunk(paper: Floats, rng: np.random.Generator, light: Light, middle: float) -> None:
    foot, half = _HEIGHT - 1, rng.uniform(6, 9)
    bark = np.array([98, 82, 66]) * rng.uniform(0.7, 1.25)
    lean = rng.uniform(-8, 8)
    left = light.on(_unit(-1, 0.1, -0.4), 0.75) * bark
    right = light.on(_unit(1, 0.1, -0.4), 0.75) * bark
    x = _WIDTH / 2
    for share in np.linspace(-1, 1, 9):
        color = left + (right - left) * (share + 1) / 2
        ends = np.array(
            [
                [x + lean + 0.6 * half * share, middle],
                [x + half * share, foot - 10],
                [x + 1.5 * half * share, foot],
            ]
        )
        cv2.polylines(paper, [np.round(ends).astype(np.int32)], False, (*color.tolist(), 255.0), 4)
    for _ in range(4):  # branches into the crown
        tip = (round(x + rng.uniform(-70, 70)), round(middle - rng.uniform(10, 60)))
        start = (round(x + lean * 0.7), round(middle + rng.uniform(10, 70)))
        cv2.line(paper, start, tip, (*(0.5 * (left + right)).tolist(), 255.0), 5)


def _crown(
    paper: Floats,
    rng: np.random.Generator,
    light: Light,
    middle: Floats64,
    radii: tuple[float, float],
) -> None:
    """Balls of leaves on an ellipsoid, painted from the back, then roughened."""
    layer = np.zeros_like(paper)
    green = np.array(_GREENS[rng.integers(len(_GREENS))]) * rng.uniform(0.85, 1.2)
    count = 170
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction *= rng.uniform(0.25, 1.0, (count, 1)) ** 0.4
    narrow = rng.uniform(0.0, 0.35)  # how far the crown tapers to its top
    for x, y, z in direction[np.argsort(-direction[:, 2])]:
        taper = 1 - narrow * (y + 1) / 2
        spot = middle + np.array([x * radii[0] * taper * 0.82, -y * radii[1] * 0.85])
        radius = rng.uniform(0.11, 0.24) * radii[0]
        inner = 0.55 + 0.45 * float(np.hypot(np.hypot(x, y), z)) ** 2
        lit = light.on(_unit(x, y + 0.35, z - 0.3), 0.9) * inner
        color = green * lit * rng.uniform(0.82, 1.15)
        point = (round(float(spot[0])), round(float(spot[1])))
        cv2.circle(layer, point, round(radius), (*(color * 0.72).tolist(), 255.0), -1)
        up = (
            point[0] + round(radius * 0.2 * np.sign(light.to_sun[0])),
            point[1] - round(radius * 0.25),
        )
        cv2.circle(layer, up, max(2, round(radius * 0.7)), (*color.tolist(), 255.0), -1)
    shape = (_HEIGHT, _WIDTH)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    ragged = [grid + 7 * fractal(rng, shape, (14, 6, 3), 0.8) for grid in (x, y)]
    layer = cv2.remap(layer, ragged[0], ragged[1], cv2.INTER_LINEAR)
    layer[..., :3] *= (1 + 0.26 * noise(rng, shape, 2.2) + 0.14 * noise(rng, shape, 7))[..., None]
    cover = layer[..., 3:] / 255
    paper[:] = paper + (layer - paper) * cover
    paper[..., 3] = np.maximum(paper[..., 3], layer[..., 3])


@dataclass(frozen=True)
class Tree:
    """A tree at (x, z), metres."""

    x: float
    z: float
    size: float
    picture: list[Image]

    def place(self, t: float) -> tuple[float, float]:
        """Where it stands: x and z."""
        return self.x, self.z

    def paint(self, canvas: Canvas, t: float) -> None:
        """Paints it with the earth at its foot."""
        canvas.shadow(_disc(self.x, self.z, 0.55), 0.55)
        canvas.sprite((self.x, 0.12, self.z), self.picture, self.size, ClassId.TREE)


def _disc(x: float, z: float, radius: float) -> Floats64:
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return np.stack(
        [x + radius * np.cos(turn), np.full(12, 0.13), z + radius * np.sin(turn)], axis=1
    )


def _unit(x: float, y: float, z: float) -> Floats64:
    vector = np.array([x, y, z], np.float64)
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))
