"""How images travel: as they are, or as JPEG, with masks as PNG on the way back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from segkit import contract
from segkit.client.wire import Array
from segkit.errors import ConfigError
from segkit.video.frame import Image, Mask

__all__ = ["RAW", "WireFormat", "class_map", "encode_jpeg", "png_mask"]

JPEG = re.compile(r"jpeg:(\d{1,3})")


@dataclass(frozen=True)
class WireFormat:
    """What a request holds.

    Args:
        jpeg_quality: 1 to 100; None sends the pixels. A JPEG is answered by a PNG: at 640x480 some
            60 KB a frame instead of 1.2 MB, for 3 ms of work on both sides.
    """

    jpeg_quality: int | None = None

    def __str__(self) -> str:
        return "raw" if self.jpeg_quality is None else f"jpeg:{self.jpeg_quality}"

    @classmethod
    def parse(cls, text: str, *, flag: str = "--wire") -> Self:
        """Reads "raw" or "jpeg:QUALITY".

        Raises:
            ConfigError: It is neither.
        """
        match = JPEG.fullmatch(text)
        if text != "raw" and not (match and 1 <= int(match[1]) <= 100):
            raise ConfigError(
                f"{flag} is '{text}'", expected="raw, or jpeg:QUALITY with a quality of 1 to 100"
            )
        return cls(int(match[1]) if match else None)

    @property
    def signature(self) -> str:
        """The signature that takes it."""
        return contract.DEFAULT_SIGNATURE if self.jpeg_quality is None else "encoded"

    def inputs(self, image: Image) -> dict[str, Array]:
        """The inputs of a request for one image of the model's size."""
        if self.jpeg_quality is None:
            return {contract.IMAGE: image[np.newaxis]}
        return {contract.ENCODED_IMAGE: np.array([encode_jpeg(image, self.jpeg_quality)], object)}

    def mask(self, outputs: dict[str, Array], size: tuple[int, int]) -> Mask:
        """The class ids of a reply: uint8, (H, W).

        Args:
            outputs: Output name -> array.
            size: Height and width that they must have.

        Raises:
            ValueError: They are something else.
        """
        if self.jpeg_quality is None:
            return class_map(outputs, contract.CLASS_IDS, (1, *size))[0]
        mask = png_mask(outputs)
        if mask is None or mask.shape != size:
            raise ValueError(
                f"a reply's '{contract.ENCODED_MASK}' is no PNG of {size[1]}x{size[0]} class ids"
            )
        return mask


def class_map(outputs: dict[str, Array], name: str, shape: tuple[int, ...]) -> Mask:
    """An output that has a byte for every pixel.

    Raises:
        ValueError: It is not there, or of another kind or shape.
    """
    found = _output(outputs, name)
    if found.dtype != np.uint8 or found.shape != shape:
        raise ValueError(
            f"a reply has '{name}' of {found.dtype} {found.shape}, not of uint8 {shape}"
        )
    return found


def png_mask(outputs: dict[str, Array]) -> Mask | None:
    """The class ids of the signature `encoded`: uint8, (H, W); None where it gives no such PNG.

    Raises:
        ValueError: The output is not there.
    """
    found = _output(outputs, contract.ENCODED_MASK)
    png = found.item() if found.size == 1 and found.dtype == object else b""
    mask = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED) if png else None
    return None if mask is None or mask.dtype != np.uint8 or mask.ndim != 2 else np.asarray(mask)


def encode_jpeg(image: Image, quality: int) -> bytes:
    """An image as JPEG with OpenCV's defaults: 4:2:0, baseline.

    Args:
        image: uint8, (H, W, 3), RGB.
        quality: 1..100.
    """
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())


def _output(outputs: dict[str, Array], name: str) -> Array:
    if name not in outputs:
        raise ValueError(f"a reply has no '{name}', only {sorted(outputs)}")
    return outputs[name]


RAW = WireFormat()
