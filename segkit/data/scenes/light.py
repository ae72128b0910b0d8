"""Sun, sky light and haze of one world: they turn albedo into colour."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Light"]

Floats = npt.NDArray[np.float64]

Color = tuple[float, float, float]
# Sun, ambient, zenith, horizon, visibility, clouds: as in Light.
_WEATHERS: dict[str, tuple[Color, Color, Color, Color, float, float]] = {
    "noon": (
        (0.86, 0.80, 0.70), (0.50, 0.54, 0.61), (70, 122, 190), (190, 210, 228), 420, 0.45,
    ),
    "golden": (
        (1.00, 0.72, 0.44), (0.52, 0.52, 0.58), (92, 124, 176), (246, 208, 166), 260, 0.50,
    ),
    "overcast": (
        (0.16, 0.16, 0.15), (0.72, 0.74, 0.77), (160, 170, 182), (208, 212, 216), 230, 0.95,
    ),
    "hazy": (
        (0.52, 0.48, 0.42), (0.57, 0.59, 0.62), (136, 162, 190), (214, 216, 214), 130, 0.30,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Light:
    """Direction and colours of the light; colours are factors of an albedo in 0..255.

    Args:
        to_sun: Unit vector towards the sun.
        sun: Colour of the sunlight.
        ambient: Colour of the light from the sky.
        zenith: Colour of the sky overhead, 0..255.
        horizon: Colour of sky and haze at the horizon, 0..255.
        visibility: Metres in which haze takes 63 % of the contrast.
        clouds: Share of the sky under clouds, 0..1.
    """

    to_sun: Floats
    sun: Floats
    ambient: Floats
    zenith: Floats
    horizon: Floats
    visibility: float
    clouds: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Light:
        """A time of day and a weather: noon, golden hour, overcast or hazy."""
        kind = rng.choice(["noon", "golden", "overcast", "hazy"], p=[0.4, 0.25, 0.2, 0.15])
        elevation = np.radians(
            rng.uniform(*{"golden": (13, 24), "overcast": (40, 60)}.get(str(kind), (30, 58)))
        )
        azimuth = rng.uniform(0, 2 * np.pi)
        to_sun = np.array(
            [
                np.cos(elevation) * np.sin(azimuth),
                np.sin(elevation),
                np.cos(elevation) * np.cos(azimuth),
            ]
        )
        sun, ambient, zenith, horizon, visibility, clouds = _WEATHERS[str(kind)]
        jitter = rng.uniform(0.93, 1.07, 3)
        return cls(
            to_sun=to_sun,
            sun=np.array(sun) * rng.uniform(0.85, 1.1),
            ambient=np.array(ambient) * rng.uniform(0.92, 1.08),
            zenith=np.array(zenith) * jitter,
            horizon=np.minimum(np.array(horizon) * (1 + (jitter - 1) / 2), 252),
            visibility=visibility * rng.uniform(0.8, 1.3),
            clouds=float(np.clip(clouds + rng.uniform(-0.3, 0.2), 0.05, 1)),
        )

    def on(self, normal: npt.ArrayLike, lit: float = 1.0) -> Floats:
        """Factor (3,) for a surface of that unit normal; `lit` is the share not in shadow."""
        n = np.asarray(normal, np.float64)
        ambient = self.ambient * (0.86 + 0.14 * n[1])
        return ambient + self.sun * max(0.0, float(n @ self.to_sun)) * lit

    def hazed(self, color: npt.ArrayLike, depth: float) -> tuple[int, int, int]:
        """A colour seen through `depth` metres of air, ready to draw."""
        share = math.exp(-max(depth, 0.0) / self.visibility)
        seen = np.asarray(color, np.float64) * share + self.horizon * (1 - share)
        r, g, b = (min(255, max(0, int(value))) for value in seen.tolist())
        return r, g, b
