"""What a camera does to a picture: bloom, falling-off light, exposure, blur, noise, JPEG."""

from __future__ import annotations

import cv2
import numpy as np

from segkit.data.scenes.textures import Floats, Image

__all__ = ["Lens"]


class Lens:
    """One camera with its habits; its exposure follows what it sees.

    Args:
        rng: Draws them.
        image_size: Height and width, pixels.
    """

    def __init__(self, rng: np.random.Generator, image_size: tuple[int, int]) -> None:
        height, width = image_size
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        self._falloff = (1 - rng.uniform(0.08, 0.20) * (x**2 + y**2) / 2)[..., None]
        self._white = rng.uniform(0.96, 1.04, 3).astype(np.float32)
        self._target = rng.uniform(98, 128)  # mean brightness that the exposure aims at
        self._drift = rng.uniform(0.02, 0.06), rng.uniform(0.3, 0.9), rng.uniform(0, 6.28)
        self._blur = rng.uniform(0.35, 0.75)
        self._quality = int(rng.integers(72, 93))
        sigma = rng.uniform(0.8, 2.4)
        grain = rng.standard_normal((height + 64, width + 64, 1)).astype(np.float32)
        tinge = rng.standard_normal((height + 64, width + 64, 3)).astype(np.float32)
        self._noise: Floats = sigma * (0.8 * grain + 0.5 * tinge)

    def expose(self, image: Image, t: float, rng: np.random.Generator) -> Image:
        """The picture as the camera gives it, uint8, (H, W, 3)."""
        height, width = image.shape[:2]
        depth, rate, phase = self._drift
        metered = float(image[::8, ::8].mean())
        gain = np.clip((self._target / max(metered, 1.0)) ** 0.8, 0.8, 2.0)
        gain *= 1 + depth * np.sin(rate * t + phase)
        blurred = cv2.GaussianBlur(image, (0, 0), self._blur)
        bright = cv2.subtract(blurred, (205, 205, 205, 0))
        glow = cv2.GaussianBlur(cv2.resize(bright, (width // 4, height // 4)), (0, 0), 4)
        seen = blurred + 0.8 * cv2.resize(glow, (width, height)).astype(np.float32)
        seen *= self._falloff * (self._white * np.float32(gain))
        top, left = rng.integers(0, 64, 2)
        seen += self._noise[top : top + height, left : left + width] * (0.6 + seen / 300)
        return np.clip(_toned(seen), 0, 255).astype(np.uint8)

    def compress(self, image: Image) -> bytes:
        """The picture as JPEG."""
        flags = [cv2.IMWRITE_JPEG_QUALITY, self._quality]
        done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
        assert done
        return data.tobytes()


def _toned(seen: Floats) -> Floats:
    """A gentle S: deeper shadows, highlights that roll off instead of breaking off."""
    x = np.clip(seen / 255, 0, 1.35)
    curved = x - 0.05 * np.sin(2 * np.pi * np.minimum(x, 1.0))
    return np.asarray(255 * np.where(curved > 0.86, 0.86 + (curved - 0.86) * 0.55, curved))
