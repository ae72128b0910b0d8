"""The ground of a street: asphalt, lane marks, crossings, kerbs, pavement, and what shades it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from segkit.data.scenes.canvas import Canvas
from segkit.data.scenes.classes import ClassId
from segkit.data.scenes.light import Light
from segkit.data.scenes.textures import Floats, Image, fractal, noise, pyramid, slabs, to_bytes

__all__ = ["HALF_ROAD", "KERB_HEIGHT", "Ground", "Layout"]

KERB_HEIGHT = 0.13
HALF_ROAD = 3.3  # metres
_DENSITY = 14  # map pixels a metre
_HALF_WIDTH = 16.0
_BLOCK = 48  # image rows that share a level of detail


class Layout(NamedTuple):
    """The plan of a street, metres: it runs from z = start to z = end."""

    start: float
    end: float
    road: float
    """half the width of the road, x = -road..road"""
    frontage: tuple[float, float]
    """distance of the facades from the middle, left and right"""
    side_streets: tuple[tuple[float, float], ...]
    """z from and to"""
    zebras: tuple[float, ...]
    """z of the middle of each crossing"""


class Ground:
    """Colour, class and shadow of the ground as maps, looked up for each pixel.

    Args:
        rng: Draws the surfaces.
        layout: The plan.
        light: Colours the maps.
        heights: Heights of the facades by map row, (2, rows): left and right; 0 where none is.
        crowns: Trees as (x, z, height of the middle of the crown, its radius).
    """

    def __init__(
        self,
        rng: np.random.Generator,
        layout: Layout,
        light: Light,
        *,
        heights: Floats,
        crowns: Sequence[tuple[float, float, float, float]],
    ) -> None:
        self._layout = layout
        self._road = self._is_road()
        albedo = np.where(self._road[..., None], self._asphalt(rng), self._pavement(rng))
        lit = self._sunlit(light, heights, crowns, rng)
        on_ground = light.on((0, 1, 0)) - light.on((0, 1, 0), lit=0)
        factor = light.on((0, 1, 0), lit=0) + lit[..., None] * on_ground
        shade = to_bytes(albedo * factor)
        self._color = pyramid(shade, 4)
        self._kerb = (light.on((0.7, 0.7, 0)) * 150).clip(0, 255)
        self._classes = np.where(self._road, ClassId.ROAD, ClassId.PAVEMENT).astype(np.uint8)
        grain = 1 + 0.10 * rng.standard_normal((256, 256)).astype(np.float32)
        self._grain = cv2.GaussianBlur(grain, (0, 0), 0.7)

    @staticmethod
    def rows(layout: Layout) -> int:
        """Number of map rows of a layout."""
        return round((layout.end - layout.start) * _DENSITY)

    @staticmethod
    def row(layout: Layout, z: float) -> int:
        """The map row at z."""
        return round((z - layout.start) * _DENSITY)

    def paint(self, canvas: Canvas) -> None:
        """Paints everything below the horizon."""
        camera = canvas.camera
        rays = camera.rays()
        below = np.flatnonzero((rays[1] < -0.004).any(axis=1))
        for top in range(int(below[0]) if len(below) else 1 << 30, rays.shape[1], _BLOCK):
            rows = slice(top, min(top + _BLOCK, rays.shape[1]))
            self._paint_rows(canvas, rows, rays[:, rows])

    def _paint_rows(self, canvas: Canvas, rows: slice, rays: Floats) -> None:
        x0, eye, z0 = canvas.camera.position.astype(np.float32)
        down = np.minimum(rays[1], -0.0025)
        reach = (KERB_HEIGHT - eye) / down  # to the top of the pavement; is also the depth
        x, z = x0 + rays[0] * reach, z0 + rays[2] * reach
        classes = self._look_up(self._classes, x, z)
        lower = np.float32(eye / (eye - KERB_HEIGHT))
        on_road = classes == ClassId.ROAD
        x = np.where(on_road, x0 + rays[0] * reach * lower, x)
        z = np.where(on_road, z0 + rays[2] * reach * lower, z)
        footprint = float(np.median(reach)) / canvas.camera.focal * _DENSITY
        level = int(np.clip(np.round(np.log2(max(footprint * 1.6, 1))), 0, len(self._color) - 1))
        color = self._look_up(self._color[level], x, z, level)
        near = np.float32(np.clip(1.6 - footprint, 0, 1))
        if near > 0:
            u, v = (x * 60) % 256, (z * 60) % 256
            grain = cv2.remap(self._grain, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
            color = cv2.convertScaleAbs(color * (1 + near * (grain - 1))[..., None])
        # A ray that passes over the kerb's edge to the road, and is under the pavement there.
        kerb = on_road & (self._look_up(self._classes, x, z) == ClassId.PAVEMENT)
        color[kerb] = self._kerb
        color = canvas.haze(color, reach)
        shown = rays[1] < -0.0025
        canvas.image[rows][shown] = color[shown]
        canvas.mask[rows][shown] = np.where(kerb, ClassId.PAVEMENT, classes)[shown]

    def _look_up(self, table: Image, x: Floats, z: Floats, level: int = 0) -> Image:
        density = np.float32(_DENSITY / 2**level)
        u = (x + np.float32(_HALF_WIDTH)) * density - np.float32(0.5)
        v = (z - np.float32(self._layout.start)) * density - np.float32(0.5)
        how = cv2.INTER_NEAREST if table.ndim == 2 else cv2.INTER_LINEAR
        return np.asarray(cv2.remap(table, u, v, how, borderMode=cv2.BORDER_REPLICATE))

    def _axes(self) -> tuple[Floats, Floats]:
        columns = round(2 * _HALF_WIDTH * _DENSITY)
        x = ((np.arange(columns) + 0.5) / _DENSITY - _HALF_WIDTH).astype(np.float32)
        z = (np.arange(self.rows(self._layout)) + 0.5) / _DENSITY + self._layout.start
        return x, z.astype(np.float32)

    def _is_road(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        x, z = self._axes()
        road = np.broadcast_to(np.abs(x) < self._layout.road, (len(z), len(x))).copy()
        for from_z, to_z in self._layout.side_streets:
            road[(z > from_z + 1.6) & (z < to_z - 1.6)] = True
        return road

    def _asphalt(self, rng: np.random.Generator) -> Floats:
        x, z = self._axes()
        shape = (len(z), len(x))
        tone = 1 + 0.13 * fractal(rng, shape, (240, 60, 14, 3), 0.7)
        lane = self._layout.road * 0.31
        for track in (-lane - 0.75, -lane + 0.75, lane - 0.75, lane + 0.75):
            tone -= 0.06 * np.exp(-(((x - track) / 0.28) ** 2))[None, :]
        tone -= 0.16 * np.exp(-(((np.abs(x) - self._layout.road) / 0.25) ** 2))[None, :]  # gutter
        for _ in range(rng.integers(4, 14)):  # mended places
            row, column = rng.integers(0, shape[0]), rng.integers(0, shape[1])
            high, wide = rng.integers(15, 120), rng.integers(10, 45)
            tone[row : row + high, column : column + wide] *= rng.uniform(0.78, 1.12)
        for _ in range(rng.integers(3, 9)):  # manholes
            where = (
                round((rng.uniform(-2.5, 2.5) + _HALF_WIDTH) * _DENSITY),
                rng.integers(shape[0]),
            )
            cv2.circle(tone, (int(where[0]), int(where[1])), 5, 0.55, -1)
            cv2.circle(tone, (int(where[0]), int(where[1])), 5, 0.9, 1)
        base = rng.uniform(92, 130) * np.array([1.0, 1.0, 1.02], np.float32)
        albedo = tone[..., None] * base.astype(np.float32)
        paint = self._marks(rng) * (0.82 + 0.18 * noise(rng, shape, 5))
        return albedo + paint[..., None] * (np.array([232, 230, 222], np.float32) - albedo)

    def _marks(self, rng: np.random.Generator) -> Floats:
        """How much white paint lies on the road, 0..1."""
        x, z = self._axes()
        paint = np.zeros((len(z), len(x)), np.float32)
        dashed = (z % 6.0) < rng.choice([2.2, 3.0])
        paint[np.ix_(dashed, np.abs(x) < 0.08)] = 1
        if rng.random() < 0.6:
            edge = np.abs(np.abs(x) - (self._layout.road - 1.9)) < 0.07
            paint[np.ix_((z % 1.6) < 1.0, edge)] = 0.9
        for from_z, to_z in self._layout.side_streets:
            paint[(z > from_z - 4) & (z < to_z + 4)] = 0
        stripes = ((x + 0.25) % 1.0 < 0.52) & (np.abs(x) < self._layout.road - 0.25)
        for middle in self._layout.zebras:
            paint[np.abs(z - middle) < 4] = 0
            paint[np.ix_(np.abs(z - middle) < 1.7, stripes)] = 1
        return paint

    def _pavement(self, rng: np.random.Generator) -> Floats:
        x, z = self._axes()
        shape = (len(z), len(x))
        laid = slabs(rng, shape, size=int(rng.choice([6, 8, 11])), contrast=rng.uniform(0.04, 0.10))
        tone = laid * (1 + 0.10 * fractal(rng, shape, (130, 30, 6), 0.7))
        stone = np.abs(np.abs(x) - self._layout.road - 0.13) < 0.13
        tone[:, stone] = 1.12 + 0.05 * noise(rng, shape, 20)[:, stone]  # kerb stones
        color = np.array([[168, 160, 150], [150, 150, 152], [176, 156, 138], [140, 138, 134]])
        base = color[rng.integers(len(color))] * rng.uniform(0.9, 1.1)
        return tone[..., None] * base.astype(np.float32)

    def _sunlit(
        self,
        light: Light,
        heights: Floats,
        crowns: Sequence[tuple[float, float, float, float]],
        rng: np.random.Generator,
    ) -> Floats:
        """Share of sunlight that reaches the ground, 0..1: houses and trees stand in its way."""
        x, z = self._axes()
        sun_x, sun_y, sun_z = light.to_sun
        side = int(sun_x > 0)
        wall = self._layout.frontage[side] * (1 if side else -1)
        travel = (wall - x) / np.where(abs(sun_x) < 1e-3, 1e-3, sun_x)
        row = np.round((z[:, None] + travel * sun_z - self._layout.start) * _DENSITY)
        height = heights[side][np.clip(row, 0, len(z) - 1).astype(int)]
        lit = ((travel * sun_y > height) | (travel < 0)).astype(np.float32)
        leaves = 0.35 * (noise(rng, lit.shape, 4) > 0.15)
        shade = np.zeros_like(lit)
        for tree_x, tree_z, tree_y, radius in crowns:
            back = tree_y / sun_y
            center = (
                round((tree_x - sun_x * back + _HALF_WIDTH) * _DENSITY),
                round((tree_z - sun_z * back - self._layout.start) * _DENSITY),
            )
            long = radius * _DENSITY
            axes = (round(long), round(long / max(sun_y, 0.35)))
            angle = -np.degrees(np.arctan2(sun_x, sun_z))
            cv2.ellipse(shade, center, axes, float(angle), 0, 360, 1.0, -1)
        lit = np.minimum(lit, 1 - shade * (0.9 - leaves))
        return np.asarray(cv2.GaussianBlur(lit, (0, 0), 2.0))
