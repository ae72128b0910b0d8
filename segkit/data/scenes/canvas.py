"""The canvas: a colour image and a mask that are always painted together, far things first."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from segkit.data.scenes.camera import NEAR, Camera, Plane
from segkit.data.scenes.light import Light
from segkit.data.scenes.textures import Image

__all__ = ["Canvas"]

Color = tuple[int, int, int]
_SHIFT = 4  # fractional bits of cv2's drawing
_LIMIT = 1 << 15  # cv2 draws wrongly where coordinates are larger

Points = npt.NDArray[np.float64]

_TURN = np.linspace(-np.pi / 2, np.pi / 2, 7)
# Rotations that turn a direction into each point of the half circle around it: (7, 2, 2).
_HALF_CIRCLE = np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in _TURN])


class Canvas:
    """What a camera sees, as it is painted.

    Args:
        camera: The exposure.
        light: Gives the haze.
    """

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        self.image: Image = np.zeros((*camera.image_size, 3), np.uint8)
        self.mask: Image = np.zeros(camera.image_size, np.uint8)

    def sees(self, point: npt.ArrayLike, *, margin: float) -> bool:
        """Whether a world point is in the picture, give or take a margin in metres."""
        (across, _, depth) = self.camera.to_camera(np.asarray(point, np.float64)[None])[0]
        half = self.camera.center[0] / self.camera.focal
        return bool(depth > -margin and abs(across) - margin < half * max(depth, 0.0))

    def polygon(self, points: Points, color: Color, class_id: int) -> None:
        """Fills a polygon of image points (N, 2)."""
        fixed = _fixed(points)
        if len(points) < 3 or not self._visible(fixed):
            return
        cv2.fillPoly(self.image, [fixed], color, cv2.LINE_8, _SHIFT)
        cv2.fillPoly(self.mask, [fixed], int(class_id), cv2.LINE_8, _SHIFT)

    def face(self, points: npt.ArrayLike, color: npt.ArrayLike, class_id: int) -> None:
        """Fills a planar world polygon (N, 3) with a lit colour, hazed by its distance."""
        corners = self.camera.to_camera(points)
        if corners[:, 2].max() > NEAR:
            depth = float(corners[0, 2])
            self.polygon(self.camera.flatten(corners), self.light.hazed(color, depth), class_id)

    def capsules(
        self,
        ends: Points,
        radii: Points,
        colors: npt.NDArray[np.uint8],
        *,
        solid: npt.NDArray[np.bool_],
        class_id: int,
    ) -> None:
        """Fills rounded, tapered strokes, one after the other.

        Args:
            ends: Image points, (N, 2, 2).
            radii: Pixels, at each end, (N, 2).
            colors: (N, 3).
            solid: Strokes that belong to the mask, (N,); the others only change the colour.
            class_id: Their class.
        """
        along = ends[:, 1] - ends[:, 0]
        turn = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
        # A half circle that bulges along each stroke: (N, 7, 2).
        arc = np.einsum("kij,nj->nki", _HALF_CIRCLE, turn)
        head = ends[:, 1, None] + arc * radii[:, 1, None, None]
        tail = ends[:, 0, None] - arc * radii[:, 0, None, None]
        outlines = _fixed(np.concatenate([head, tail], axis=1))
        tones = colors.tolist()
        for outline, tone, counts in zip(outlines, tones, solid.tolist(), strict=True):
            cv2.fillConvexPoly(self.image, outline, tone, cv2.LINE_8, _SHIFT)
            if counts:
                cv2.fillConvexPoly(self.mask, outline, int(class_id), cv2.LINE_8, _SHIFT)

    def textured(
        self, plane: Plane, levels: list[Image], size: tuple[float, float], class_id: int
    ) -> None:
        """Paints a rectangle in the world with a texture.

        Args:
            plane: Where the pixels of levels[0] lie.
            levels: The texture, uint8, (h, w, 3), lit, and its halvings.
            size: Height and width of the part to paint, in pixels of levels[0].
            class_id: Its class.
        """
        height, width = size
        corners = [
            plane.corner + plane.right * x + plane.down * y
            for x, y in ((0, 0), (width, 0), (width, height), (0, height))
        ]
        points = self.camera.polygon(np.array(corners))
        if len(points) < 3:
            return
        rows, columns = self._window(points)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        # Foreshortening squeezes one axis: the mean of both decides, leaning to the sharper.
        scale = float(np.sqrt(max(_area(points), 1.0) / (width * height)))
        level = int(np.clip(np.round(-np.log2(max(scale, 1e-6)) + 0.2), 0, len(levels) - 1))
        texture = levels[level]
        shrink = np.diag(
            [levels[0].shape[1] / texture.shape[1], levels[0].shape[0] / texture.shape[0], 1.0]
        )
        move = np.array([[1.0, 0, -columns.start], [0, 1.0, -rows.start], [0, 0, 1.0]])
        extent = (columns.stop - columns.start, rows.stop - rows.start)
        seen = cv2.warpPerspective(
            texture,
            move @ self.camera.homography(plane) @ shrink,
            extent,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        a, b, c = self.camera.inverse_depth(plane)
        x = np.arange(columns.start, columns.stop, dtype=np.float32)
        y = np.arange(rows.start, rows.stop, dtype=np.float32)
        inverse = np.maximum((b * y + c)[:, None] + (a * x)[None, :], 1e-4).astype(np.float32)
        seen = self.haze(np.asarray(seen), 1 / inverse)
        inside = np.zeros(extent[::-1], np.uint8)
        cv2.fillPoly(
            inside, [_fixed(points - (columns.start, rows.start))], 255, cv2.LINE_8, _SHIFT
        )
        cv2.copyTo(seen, inside, self.image[rows, columns])
        self.mask[rows, columns][inside > 0] = class_id

    def sprite(self, foot: npt.ArrayLike, levels: list[Image], size: float, class_id: int) -> None:
        """Stands an upright picture with its foot on a world point, facing the camera.

        Args:
            foot: World point under the middle of the picture's lower edge.
            levels: uint8, (h, w, 4), RGBA, colours not multiplied by alpha, and halvings.
            size: Height in metres.
            class_id: Its class.
        """
        (point,), (depth,) = self.camera.project(np.asarray(foot, np.float64)[None])
        if depth < 1.0:
            return
        full = levels[0].shape[0]
        scale = size * self.camera.focal / depth / full
        level = int(np.clip(np.floor(-np.log2(max(scale, 1e-6)) + 0.3), 0, len(levels) - 1))
        texture = levels[level]
        scale *= full / texture.shape[0]
        height, width = texture.shape[0] * scale, texture.shape[1] * scale
        corner = point - (width / 2, height)
        rows, columns = self._window(np.array([corner, point + np.array([width / 2, 0])]))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        move = np.array([[scale, 0, corner[0] - columns.start], [0, scale, corner[1] - rows.start]])
        extent = (columns.stop - columns.start, rows.stop - rows.start)
        seen = np.asarray(cv2.warpAffine(texture, move, extent, flags=cv2.INTER_LINEAR))
        color = self.haze(
            np.ascontiguousarray(seen[..., :3]), np.full(extent[::-1], depth, np.float32)
        )
        alpha = seen[..., 3:].astype(np.float32) / 255
        under = self.image[rows, columns]
        under[:] = (under + (color.astype(np.float32) - under) * alpha).astype(np.uint8)
        self.mask[rows, columns][seen[..., 3] > 127] = class_id

    def shadow(self, points: npt.ArrayLike, strength: float) -> None:
        """Darkens a ground polygon (N, 3), softly; the mask stays as it is."""
        seen = self.camera.polygon(points)
        if len(seen) < 3:
            return
        depth = float(np.mean(self.camera.to_camera(points)[:, 2]))
        soft = int(np.clip(0.12 * self.camera.focal / max(depth, 1.0), 1, 12))
        rows, columns = self._window(seen, margin=2 * soft)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        dark = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        fixed = _fixed(seen - (columns.start, rows.start))
        cv2.fillPoly(dark, [fixed], round(255 * strength), cv2.LINE_8, _SHIFT)
        dark = np.asarray(cv2.blur(dark, (2 * soft + 1, 2 * soft + 1)))
        keep = cv2.merge([255 - dark] * 3)
        under = self.image[rows, columns]
        under[:] = cv2.multiply(under, keep, scale=1 / 255)

    def haze(self, color: Image, depth: npt.NDArray[np.float32]) -> Image:
        """Colours (H, W, 3) seen through depths (H, W) of air: uint8."""
        share = cv2.exp(depth * np.float32(-1 / self.light.visibility))
        air = np.full_like(color, self.light.horizon.astype(np.uint8))
        return np.asarray(cv2.blendLinear(color, air, share, 1 - share))

    def _visible(self, fixed: npt.NDArray[np.int32]) -> bool:
        height, width = self.camera.image_size
        x, y, wide, high = cv2.boundingRect(fixed)
        return bool(x < width << _SHIFT and y < height << _SHIFT and x + wide > 0 and y + high > 0)

    def _window(self, points: Points, margin: int = 1) -> tuple[slice, slice]:
        """Rows and columns that hold the points and lie in the image."""
        height, width = self.camera.image_size
        low = np.floor(points.min(axis=0)).clip(-_LIMIT, _LIMIT).astype(int) - margin
        high = np.ceil(points.max(axis=0)).clip(-_LIMIT, _LIMIT).astype(int) + margin
        return (
            slice(max(0, low[1]), min(height, high[1] + 1)),
            slice(max(0, low[0]), min(width, high[0] + 1)),
        )


def _fixed(points: Points) -> npt.NDArray[np.int32]:
    # cv2 counts from pixel centres.
    scaled = points * 16 - 8
    return np.minimum(np.maximum(scaled, -16 * _LIMIT), 16 * _LIMIT).astype(np.int32)


def _area(points: Points) -> float:
    x, y = points.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
