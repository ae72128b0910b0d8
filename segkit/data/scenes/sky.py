"""The sky: a gradient, the glow around the sun, and clouds in perspective."""

from __future__ import annotations

import cv2
import numpy as np

from segkit.data.scenes.canvas import Canvas
from segkit.data.scenes.classes import ClassId
from segkit.data.scenes.light import Light
from segkit.data.scenes.textures import fractal

__all__ = ["Sky"]

_SIZE = 512


class Sky:
    """A sky with clouds of its own.

    Args:
        rng: Draws the clouds.
        light: Colours them.
    """

    def __init__(self, rng: np.random.Generator, light: Light) -> None:
        self._light = light
        clouds = fractal(rng, (_SIZE, _SIZE), (150, 64, 28, 12, 5), 0.55)
        # Mirrored, so that it can be repeated without a seam.
        clouds = np.concatenate([clouds, clouds[::-1]], axis=0)
        self._clouds = np.concatenate([clouds, clouds[:, ::-1]], axis=1)
        self._threshold = 0.75 - 1.5 * light.clouds

    def paint(self, canvas: Canvas) -> None:
        """Paints the whole image; everything else comes on top."""
        light = self._light
        step = 3  # a sky is smooth: a third of the resolution will do
        rays = canvas.camera.rays()[:, ::step, ::step]
        length = np.sqrt((rays**2).sum(axis=0))
        up = np.clip(rays[1] / length, 0.0, 1.0)
        blend = (up / 0.75).clip(0, 1)[..., None] ** 0.62
        color = light.horizon + (light.zenith - light.horizon) * blend
        sun = light.to_sun.astype(np.float32)
        toward = np.clip(np.tensordot(sun, rays, axes=1) / length, 0, 1)
        glow = (0.55 * toward**10 + 0.9 * toward**90)[..., None]
        color = color + glow * light.sun * 110

        scale = np.float32(90) / np.maximum(up, 0.05)
        size = 2 * _SIZE
        u = (rays[0] / length * scale) % size
        v = (rays[2] / length * scale) % size
        wisps = cv2.remap(
            self._clouds,
            u.astype(np.float32),
            v.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        cover = np.clip((wisps - self._threshold) * 1.5, 0, 1) * np.clip(up * 7, 0, 1)
        body = np.clip(wisps - self._threshold - 0.35, 0, 1)[..., None]
        bright = 120 * light.sun + 165 * light.ambient + 45
        cloud = bright * (1 - 0.28 * body)
        color = color + (cloud - color) * (0.92 * cover)[..., None]
        height, width = canvas.camera.image_size
        image = cv2.resize(np.clip(color, 0, 255).astype(np.uint8), (width, height))
        canvas.image[:] = image
        canvas.mask[:] = ClassId.SKY
