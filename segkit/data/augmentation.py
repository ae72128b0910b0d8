"""Effects of the offline augmentation: what makes an altered copy of a labelled image.

An effect takes image, mask, objects and a random generator, and gives the first three back:

    image    uint8, (H, W, 3), RGB
    mask     uint8, (H, W), class ids and IGNORE_ID
    objects  uint16, (H, W), 0 where no object is, else the object's number

What moves pixels moves all three by one draw, mask and objects by nearest neighbour. Pixels that
come in from outside are IGNORE_ID in the mask and no object; the image is mirrored there, so that
no black wedge teaches the network where the border of a copy was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from segkit.data.pixels import decode_image
from segkit.errors import DataError
from segkit.labels import IGNORE_ID

__all__ = [
    "Augmented",
    "Background",
    "Blur",
    "Brightness",
    "Color",
    "Crop",
    "Effect",
    "Equalize",
    "Image",
    "Mask",
    "Objects",
    "Rotate",
    "Shift",
    "alter",
    "generator",
]

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]
Objects = npt.NDArray[np.uint16]
Augmented = tuple[Image, Mask, Objects]


class Effect(Protocol):
    """One way to alter a labelled image."""

    def __call__(
        self, image: Image, mask: Mask, objects: Objects, rng: np.random.Generator
    ) -> Augmented:
        """The altered image, mask and objects; what it was given stays as it is."""


@dataclass(frozen=True)
class Shift:
    """Moves the image by whole pixels, in any direction.

    Args:
        most: Largest way, as a share of the height and of the width, 0..1.
    """

    most: float = 0.25

    def __call__(
        self, image: Image, mask: Mask, objects: Objects, rng: np.random.Generator
    ) -> Augmented:
        """The moved example."""
        down, right = np.rint(rng.uniform(-self.most, self.most, 2) * mask.shape)
        return _warp(image, mask, objects, np.array([[1.0, 0.0, right], [0.0, 1.0, down]]))


@dataclass(frozen=True)
class Rotate:
    """Turns the image about its centre; its size stays, the corners are cut off.

    Args:
        most: Largest angle to either side, degrees.
    """

    most: float = 30.0

    def __call__(
        self, image: Image, mask: Mask, objects: Objects, rng: np.random.Generator
    ) -> Augmented:
        """The turned example."""
        height, width = mask.shape
        centre = ((width - 1) / 2, (height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(centre, rng.uniform(-self.most, self.most), 1.0)
        return _warp(image, mask, objects, matrix)


@dataclass(frozen=True)
class Crop:
    """Cuts out a part with the image's own aspect ratio.

    Args:
        least: Smallest height and width of the part, as a share of the image's, 0..1.
        greatest: Largest.
    """

    least: float = 0.6
    greatest: float = 0.95

    def __call__(
        self, image: Image, mask: Mask, objects: Objects, rng: np.random.Generator
    ) -> Augmented:
        """The part, at its own size."""
        size = np.array(mask.shape)
        part = np.maximum(np.rint(rng.uniform(self.least, self.greatest) * size), 1).astype(int)
        top, left = rng.integers(0, size - part + 1)
        rows, columns = slice(top, top + part[0]), slice(left, left + part[1])
        return image[rows, columns], mask[rows, columns], objects[rows, columns]


@dataclass(frozen=True)
class Blur:
    """Blurs the image.

    Args:
        most: Largest standard deviation of the Gaussian, pixels.
    """

    most: float = 2.5

    def __call__(
        self, image: Image, mask: Mask, objects: Objects, rng: np.random.Generator
    ) -> Augmented:
        """The example with a blurred image."""
        # Below a fifth of the strongest nothing would be seen.
        sigma = rng.uniform(0.2, 1.0) * self.most
        return cv2.GaussianBlur(image, (0, 0), sigma), mask, objects


@dataclass(frozen=True)
class Brightness:
    """Makes the image brighter or darker.

    Args:
        most: Largest change, in grey levels of 255.
    """

    most: float = 70.0

    def __call__(
        self, image: Image, mask: Mask, objects: Objects, rng: np.random.Generator
    ) -> Augmented:
        """The example with a brighter or darker image."""
        change = rng.choice((-1.0, 1.0)) * rng.uniform(0.2, 1.0) * self.most
        levels = np.clip(np.rint(np.arange(256) + change), 0, 255).astype(np.uint8)
        return cv2.LUT(image, levels), mask, objects


@dataclass(frozen=True)
class Equalize:
    """Equalizes the histogram of the image's luminance; the hues stay."""

    def __call__(
        self, image: Image, mask: Mask, objects: Objects, rng: np.random.Generator
    ) -> Augmented:
        """The example with an equalized image."""
        luma, red, blue = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
        merged = cv2.merge((cv2.equalizeHist(luma), red, blue))
        return cv2.cvtColor(merged, cv2.COLOR_YCrCb2RGB), mask, objects


@dataclass(frozen=True)
class Color:
    """Gives every object another colour, each its own; what is no object stays as it is.

    Args:
        hue: Largest turn of the hue to either side, degrees.
        saturation: Factors of the saturation lie in 1 +- this.
        brightness: Factors of the brightness lie in 1 +- this.
    """

    hue: float = 180.0
    saturation: float = 0.4
    brightness: float = 0.3

    def __call__(
        self, image: Image, mask: Mask, objects: Objects, rng: np.random.Generator
    ) -> Augmented:
        """The example with recoloured objects."""
        count = int(objects.max()) + 1
        draws = rng.uniform(-1.0, 1.0, (3, count))
        # OpenCV's 8-bit hue is in units of 2 degrees.
        turn = np.rint(draws[0] * self.hue / 2).astype(np.int16)
        saturation = (1 + draws[1] * self.saturation).astype(np.float32)
        brightness = (1 + draws[2] * self.brightness).astype(np.float32)

        inside = objects > 0
        numbers = objects[inside]
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        pixels = hsv[inside]  # (N, 3)
        pixels[:, 0] = (pixels[:, 0] + turn[numbers]) % 180
        pixels[:, 1] = np.minimum(pixels[:, 1] * saturation[numbers], 255)
        pixels[:, 2] = np.minimum(pixels[:, 2] * brightness[numbers], 255)
        hsv[inside] = pixels
        # The way through 8-bit HSV loses a little, so the rest is taken from the image itself.
        colored = np.where(inside[..., None], cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), image)
        return colored, mask, objects


@dataclass(frozen=True)
class Background:
    """Puts another picture behind the objects: where the mask says background.

    The picture is scaled to cover the image, its aspect ratio kept, and cut at a random place.

    Args:
        pictures: Files to choose from.
        class_id: The background's class id.
    """

    pictures: tuple[Path, ...]
    class_id: int = 0

    def __call__(
        self, image: Image, mask: Mask, objects: Objects, rng: np.random.Generator
    ) -> Augmented:
        """The example before another background."""
        path = self.pictures[rng.integers(len(self.pictures))]
        place = rng.uniform(size=2)
        behind = mask == self.class_id
        if not behind.any():
            return image, mask, objects
        try:
            data = path.read_bytes()
        except OSError as err:
            raise DataError(f"background '{path}' cannot be read: {err.strerror}") from err
        picture = decode_image(data, source=str(path), upright=True)
        picture = _cover(picture, mask.shape, place)
        # A one-pixel seam: a hard edge is something only composed images have.
        share = cv2.blur(behind.astype(np.float32), (3, 3))[..., None]
        composed = picture * share + image * (1 - share)
        return np.rint(composed).astype(np.uint8), mask, objects


def alter(
    example: Augmented,
    effects: Sequence[Effect],
    *,
    probability: float,
    rng: np.random.Generator,
) -> Augmented | None:
    """An altered copy: each effect by chance, in their order.

    Where that alters nothing (none was drawn, or there is no object to recolour), the others are
    tried one by one.

    Args:
        example: Image, mask, objects.
        effects: What may happen.
        probability: Of each of them.
        rng: What is drawn from.

    Returns:
        The copy; None where no effect finds anything to alter.
    """
    chosen = rng.uniform(size=len(effects)) < probability
    others = rng.permutation(np.flatnonzero(~chosen))
    copy = example
    for index in np.flatnonzero(chosen):
        copy = effects[index](*copy, rng)
    for index in others:
        if _differ(copy, example):
            break
        copy = effects[index](*copy, rng)
    return copy if _differ(copy, example) else None


def generator(seed: int, stem: str, number: int) -> np.random.Generator:
    """The random generator of one copy of one image, whatever else is made and in which order."""
    name = int.from_bytes(hashlib.sha256(stem.encode()).digest()[:16])
    return np.random.default_rng((seed, name, number))


def _differ(copy: Augmented, example: Augmented) -> bool:
    return not all(np.array_equal(new, old) for new, old in zip(copy[:2], example[:2], strict=True))


def _warp(image: Image, mask: Mask, objects: Objects, matrix: npt.NDArray[np.float64]) -> Augmented:
    """Moves all three by an affine map of (x, y)."""
    size = (mask.shape[1], mask.shape[0])
    nearest = {"flags": cv2.INTER_NEAREST, "borderMode": cv2.BORDER_CONSTANT}
    return (
        cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REFLECT_101),
        cv2.warpAffine(mask, matrix, size, borderValue=IGNORE_ID, **nearest),
        cv2.warpAffine(objects, matrix, size, borderValue=0, **nearest),
    )


def _cover(
    picture: Image, size: tuple[int, ...], place: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    """The picture, scaled until it covers (height, width); `place` 0..1 of what sticks out."""
    height, width = size
    scale = max(height / picture.shape[0], width / picture.shape[1])
    scaled_height = max(height, round(picture.shape[0] * scale))
    scaled_width = max(width, round(picture.shape[1] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(picture, (scaled_width, scaled_height), interpolation=method)
    top = round(float(place[0]) * (scaled_height - height))
    left = round(float(place[1]) * (scaled_width - width))
    cut: npt.NDArray[np.uint8] = scaled[top : top + height, left : left + width]
    return cut
