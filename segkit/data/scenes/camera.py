"""A pinhole camera in the street's world.

World: metres, x to the right, y up, z along the street. Camera: x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["NEAR", "Camera", "Plane"]

NEAR = 0.4  # metres; nothing nearer is drawn

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """A rectangle in the world: a corner and the two steps of one texture pixel, metres."""

    corner: Floats
    right: Floats
    down: Floats


class Camera:
    """Position and orientation of one exposure.

    Args:
        position: Metres, (3,).
        image_size: Height and width, pixels.
        yaw: Radians, to the right.
        pitch: Radians, upwards.
        roll: Radians, clockwise.
        focal: Focal length in image widths.
    """

    def __init__(
        self,
        position: npt.ArrayLike,
        *,
        image_size: tuple[int, int],
        yaw: float = 0.0,
        pitch: float = 0.0,
        roll: float = 0.0,
        focal: float = 0.95,
    ) -> None:
        height, width = image_size
        self.position = np.asarray(position, np.float64)
        self.image_size = image_size
        self.focal = focal * width
        self.center = (width / 2, height / 2)
        forward = np.array(
            [np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)]
        )
        level = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
        up = np.cross(forward, level)
        right = np.cos(roll) * level - np.sin(roll) * up
        self.rotation = np.stack([right, -np.cross(forward, right), forward])
        self._intrinsics = np.array(
            [[self.focal, 0, self.center[0]], [0, self.focal, self.center[1]], [0, 0, 1]]
        )

    def to_camera(self, points: npt.ArrayLike) -> Floats:
        """World points (N, 3) in camera coordinates, (N, 3)."""
        return (np.asarray(points, np.float64) - self.position) @ self.rotation.T

    def project(self, points: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Pixels (N, 2) as (x, y), and depths (N,) of world points; nothing is clipped."""
        seen = self.to_camera(points)
        depth = np.maximum(seen[:, 2], 1e-3)
        return seen[:, :2] / depth[:, None] * self.focal + self.center, seen[:, 2]

    def polygon(self, points: npt.ArrayLike) -> Floats:
        """Pixels (M, 2) of a planar world polygon (N, 3), cut off at NEAR; M is 0 behind it."""
        return self.flatten(self.to_camera(points))

    def flatten(self, seen: Floats) -> Floats:
        """Pixels (M, 2) of a planar polygon (N, 3) in camera coordinates, cut off at NEAR."""
        if seen[:, 2].min() < NEAR:
            seen = _clip_near(seen)
        if len(seen) < 3:
            return np.zeros((0, 2))
        return seen[:, :2] / seen[:, 2:] * self.focal + self.center

    def homography(self, plane: Plane) -> Floats:
        """The map (3, 3) from texture pixels of a plane to image pixels."""
        offset = plane.corner - self.position
        columns = np.stack([plane.right, plane.down, offset], axis=1)
        return self._intrinsics @ self.rotation @ columns

    def inverse_depth(self, plane: Plane) -> Floats:
        """Coefficients (a, b, c): a plane is seen at (x, y) in the depth 1 / (a x + b y + c)."""
        normal = self.rotation @ np.cross(plane.right, plane.down)
        distance = normal @ (self.rotation @ (plane.corner - self.position))
        a, b = normal[:2] / self.focal
        return np.array([a, b, normal[2] - a * self.center[0] - b * self.center[1]]) / distance

    def rays(self) -> npt.NDArray[np.float32]:
        """World directions of all pixels, float32, (3, H, W), not normalised."""
        height, width = self.image_size
        x = ((np.arange(width) + 0.5 - self.center[0]) / self.focal).astype(np.float32)
        y = ((np.arange(height) + 0.5 - self.center[1]) / self.focal).astype(np.float32)
        matrix = self.rotation.T.astype(np.float32)
        return np.stack([(row[0] * x + row[2])[None, :] + (row[1] * y)[:, None] for row in matrix])


def _clip_near(points: Floats) -> Floats:
    """Sutherland and Hodgman against the one plane z = NEAR."""
    kept = []
    for current, following in zip(points, np.roll(points, -1, axis=0), strict=True):
        if current[2] >= NEAR:
            kept.append(current)
        if (current[2] >= NEAR) != (following[2] >= NEAR):
            share = (NEAR - current[2]) / (following[2] - current[2])
            kept.append(current + share * (following - current))
    return np.array(kept).reshape(-1, 3)
