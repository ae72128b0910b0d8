"""The two rows of houses along a street, with the shadows that lie on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segkit.data.scenes import facades
from segkit.data.scenes.camera import Plane
from segkit.data.scenes.canvas import Canvas
from segkit.data.scenes.classes import ClassId
from segkit.data.scenes.ground import Ground, Layout
from segkit.data.scenes.light import Light
from segkit.data.scenes.textures import Floats, noise, pyramid, to_bytes

__all__ = ["Houses"]

_STEP = 1 / facades.DENSITY
_DEPTH = 13.0  # metres from the street to the back of a house


@dataclass(frozen=True)
class _Wall:
    plane: Plane
    picture: list[npt.NDArray[Any]]
    distance: float  # z of its middle: what is farther is painted earlier


class Houses:
    """All walls of a street.

    Args:
        rng: Draws the houses.
        layout: The plan.
        light: Colours them.
    """

    def __init__(self, rng: np.random.Generator, layout: Layout, light: Light) -> None:
        self._light = light
        self._walls: list[_Wall] = []
        self.heights: Floats = np.zeros((2, Ground.rows(layout)), np.float32)
        for side in (0, 1):
            self._row(rng, layout, side)
        self._shade_fronts(layout, rng)
        self._end(rng, layout)
        self._walls.sort(key=lambda wall: -wall.distance)

    def paint(self, canvas: Canvas) -> None:
        """Paints them from the far end."""
        nearest = canvas.camera.position[2] - 16
        for wall in self._walls:
            if wall.distance > nearest:
                high, wide = wall.picture[0].shape[:2]
                canvas.textured(wall.plane, wall.picture, (high, wide), ClassId.BUILDING)

    def _row(self, rng: np.random.Generator, layout: Layout, side: int) -> None:
        z = layout.start
        usual = rng.integers(2, 5)
        while z < layout.end - 4:
            width = float(rng.uniform(8.5, 16))
            for from_z, to_z in layout.side_streets:
                if from_z - 5 < z < to_z:
                    self._backdrop(rng, layout, side, (from_z, to_z))
                    z = to_z
                elif z < from_z < z + width + 5:
                    width = from_z - z
            self._house(
                rng, layout, side, z, width, int(np.clip(usual + rng.integers(-1, 2), 1, 5))
            )
            z += width

    def _house(
        self,
        rng: np.random.Generator,
        layout: Layout,
        side: int,
        z: float,
        width: float,
        floors: int,
    ) -> None:
        albedo = facades.front(rng, width, floors)
        height = albedo.shape[0] * _STEP
        outward = -1.0 if side else 1.0
        x = -outward * layout.frontage[side]
        first, last = Ground.row(layout, z), Ground.row(layout, z + width)
        self.heights[side, first:last] = height
        # Seen from the street, the texture runs towards +z on the left and towards -z on the right.
        begin, step = (z + width, -_STEP) if side else (z, _STEP)
        width_step = step * width / (albedo.shape[1] * _STEP)
        plane = Plane(
            np.array([x, height, begin]), np.array([0, 0, width_step]), np.array([0, -_STEP, 0])
        )
        self._walls.append(_Wall(plane, [albedo], z + width / 2))
        if z - 1 > layout.start and self.heights[side, first - 1] >= height:
            return  # the neighbour hides the side wall
        wall = facades.gable(rng, _DEPTH, height) * self._light.on((0, 0, -1), 0.85)
        picture = pyramid(to_bytes(wall), 5)
        corner = np.array([x if side else x - _DEPTH, height, z])
        self._walls.append(
            _Wall(
                Plane(corner, np.array([_STEP, 0, 0]), np.array([0, -_STEP, 0])), picture, z + 0.01
            )
        )

    def _shade_fronts(self, layout: Layout, rng: np.random.Generator) -> None:
        """Turns the albedo of the fronts into colour, with the shadow of the houses opposite."""
        shaded = []
        for wall in self._walls:
            if wall.picture[0].dtype == np.uint8:
                shaded.append(wall)
                continue
            albedo = wall.picture[0]
            right = wall.plane.corner[0] > 0
            normal = np.array([-1.0 if right else 1.0, 0, 0])
            lit = self._lit(
                layout, wall.plane, (albedo.shape[0], albedo.shape[1]), opposite=0 if right else 1
            )
            dark = self._light.on(normal, lit=0)
            direct = self._light.on(normal) - dark
            grounded = np.linspace(1.0, 0.86, albedo.shape[0], dtype=np.float32)[:, None, None]
            color = albedo * (dark * grounded + lit[..., None] * direct)
            picture = pyramid(to_bytes(color), 5)
            shaded.append(_Wall(wall.plane, picture, wall.distance))
        self._walls = shaded

    def _lit(
        self, layout: Layout, plane: Plane, shape: tuple[int, int], *, opposite: int
    ) -> Floats:
        sun = self._light.to_sun
        high, wide = shape
        if abs(sun[0]) < 1e-3:
            return np.ones(shape, np.float32)
        travel = sum(layout.frontage) / abs(sun[0])
        z = plane.corner[2] + plane.right[2] * np.arange(wide) + sun[2] * travel
        rows = np.clip((z - layout.start) / (layout.end - layout.start), 0, 0.9999)
        height = self.heights[opposite][(rows * self.heights.shape[1]).astype(int)]
        y = plane.corner[1] - _STEP * np.arange(high)
        lit = (y[:, None] + sun[1] * travel > height[None, :]).astype(np.float32)
        return np.asarray(cv2.GaussianBlur(lit, (0, 0), 2.5))

    def _backdrop(
        self, rng: np.random.Generator, layout: Layout, side: int, gap: tuple[float, float]
    ) -> None:
        """What is seen through a side street: its far side, and a house across its end."""
        outward = -1.0 if side else 1.0
        x = -outward * layout.frontage[side]
        wall = facades.front(rng, 26, 3) * self._light.on((0, 0, -1), 0.8)
        picture = pyramid(to_bytes(wall), 5)
        height, wide = (size * _STEP for size in wall.shape[:2])
        corner = np.array([x if side else x - wide, height, gap[1] + 0.02])
        self._walls.append(
            _Wall(
                Plane(corner, np.array([_STEP, 0, 0]), np.array([0, -_STEP, 0])),
                picture,
                gap[1] + 0.1,
            )
        )
        end = facades.front(rng, gap[1] - gap[0] + 24, 4) * self._light.on((outward, 0, 0), 0.7)
        picture = pyramid(to_bytes(end), 5)
        begin, step = (gap[1] + 12, -_STEP) if side else (gap[0] - 12, _STEP)
        corner = np.array([x - outward * 24, end.shape[0] * _STEP, begin])
        plane = Plane(corner, np.array([0, 0, step]), np.array([0, -_STEP, 0]))
        self._walls.append(_Wall(plane, picture, gap[1] + 30))

    def _end(self, rng: np.random.Generator, layout: Layout) -> None:
        """A row of houses across the end of the street, and ridges of the town behind."""
        x = -42.0
        while x < 42:
            albedo = facades.front(rng, float(rng.uniform(10, 16)), int(rng.integers(2, 5)))
            tone = 1 + 0.05 * noise(rng, (albedo.shape[0], albedo.shape[1]), 30)
            wall = albedo * tone[..., None] * self._light.on((0, 0, -1), 0.8)
            picture = pyramid(to_bytes(wall), 5)
            corner = np.array([x, albedo.shape[0] * _STEP, layout.end])
            plane = Plane(corner, np.array([_STEP, 0, 0]), np.array([0, -_STEP, 0]))
            self._walls.append(_Wall(plane, picture, layout.end))
            x += albedo.shape[1] * _STEP
