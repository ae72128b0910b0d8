"""Helpers: the files of tiny labelled sets."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

LABEL_MAP = (
    "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:64,0,128::\nroad:128,64,128::\n"
)
COLORS = np.array([(0, 0, 0), (64, 0, 128), (128, 64, 128)], np.uint8)
Files = Mapping[str, bytes | str]


def png(values: npt.NDArray[Any], palette: npt.NDArray[np.uint8] | None = None) -> bytes:
    """A PNG of grey, RGB or (with a palette) palette indices."""
    image = Image.fromarray(np.asarray(values, np.uint8))
    if palette is not None:
        image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def jpeg(seed: int = 0, size: tuple[int, int] = (6, 8), **options: Any) -> bytes:
    """A JPEG of noise; size is (height, width)."""
    noise = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="JPEG", **options)
    return buffer.getvalue()


def ids(seed: int = 0, size: tuple[int, int] = (6, 8)) -> npt.NDArray[np.uint8]:
    """A mask in which all three classes occur."""
    mask = np.random.default_rng(seed).integers(0, 3, size, np.uint8)
    mask[0, :3] = (0, 1, 2)
    return mask


def write(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder
