"""A body-fixed frame in the street, and lit boxes in it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from segkit.data.scenes.canvas import Canvas

__all__ = ["Frame"]

Points = npt.NDArray[np.float64]


class Frame:
    """Coordinates of a thing: (across to its right, up, along its heading), metres.

    Args:
        canvas: Where its faces are painted.
        origin: World point of its middle on the ground.
        heading: Radians from z towards x.
    """

    def __init__(self, canvas: Canvas, origin: npt.ArrayLike, heading: float) -> None:
        self.canvas = canvas
        self.origin = np.asarray(origin, np.float64)
        forward = np.array([np.sin(heading), 0.0, np.cos(heading)])
        right = np.array([forward[2], 0.0, -forward[0]])
        self._axes = np.stack([right, np.array([0.0, 1.0, 0.0]), forward])
        self._eye = (self._axes @ (canvas.camera.position - self.origin)).tolist()

    @property
    def distance(self) -> float:
        """Metres from the camera, on the ground."""
        return math.hypot(self._eye[0], self._eye[2])

    def world(self, points: npt.ArrayLike) -> Points:
        """Own points (N, 3) in the world."""
        return np.asarray(points, np.float64) @ self._axes + self.origin

    def direction(self, vector: npt.ArrayLike) -> Points:
        """An own direction in the world, of unit length."""
        turned = np.asarray(vector, np.float64) @ self._axes
        return np.asarray(turned / max(math.sqrt(float(turned @ turned)), 1e-9))

    def faces_camera(self, point: Sequence[float], normal: Sequence[float]) -> bool:
        """Whether a face through an own point shows its outside."""
        return sum(n * (e - p) for n, e, p in zip(normal, self._eye, point, strict=True)) > 0

    def face(
        self,
        points: Sequence[Sequence[float]],
        color: npt.ArrayLike,
        normal: Sequence[float],
        class_id: int,
    ) -> None:
        """Paints a lit face where its outside shows."""
        if self.faces_camera(points[0], normal):
            lit = np.asarray(color) * self.canvas.light.on(self.direction(normal), 0.9)
            self.canvas.face(self.world(points), lit, class_id)

    def box(
        self,
        low: tuple[float, float, float],
        high: tuple[float, float, float],
        color: npt.ArrayLike,
        class_id: int,
    ) -> None:
        """Paints an upright box between two own corners."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        for normal, corners in (
            ((0, 1, 0), [(x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)]),
            ((-1, 0, 0), [(x0, y0, z0), (x0, y1, z0), (x0, y1, z1), (x0, y0, z1)]),
            ((1, 0, 0), [(x1, y0, z0), (x1, y1, z0), (x1, y1, z1), (x1, y0, z1)]),
            ((0, 0, -1), [(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)]),
            ((0, 0, 1), [(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)]),
        ):
            self.face(corners, color, normal, class_id)

    def shadow(self, half: tuple[float, float], height: float, strength: float = 0.6) -> None:
        """Darkens the ground under and behind a thing of that half width and half length."""
        a, b = half
        square = np.array([(-a, 0, -b), (a, 0, -b), (a, 0, b), (-a, 0, b)], np.float64)
        ground = self.world(square * 1.05)
        self.canvas.shadow(ground, strength)
        sun = self.canvas.light.to_sun
        if self.canvas.light.sun.max() > 0.3:
            reach = min(height / max(float(sun[1]), 0.3), 4.0)
            moved = ground - reach * np.array([sun[0], 0, sun[2]])
            self.canvas.shadow(_hull(np.concatenate([ground, moved])), 0.42)


def _hull(points: Points) -> Points:
    order = cv2.convexHull(points[:, ::2].astype(np.float32), returnPoints=False)
    return points[np.asarray(order).ravel()]
