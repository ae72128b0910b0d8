"""Helpers: a labelled set of coloured blocks, with the classes of tests/conftest.py."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

LABEL_MAP = "background:0,0,0::\nroad:128,64,128::\ncar:64,0,128::\n"
BLOCK = 16  # pixels


def write_streets(folder: Path, size: tuple[int, int] = (64, 96), *, val: int = 4) -> str:
    """Writes train and val images, and gives their KIND:PATH."""
    rng = np.random.default_rng(3)
    height, width = size
    for split, count in (("train", 6), ("val", val)):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            grid = (height // BLOCK + 1, width // BLOCK + 1)
            image, mask = rng.integers(0, 256, (*grid, 3)), rng.integers(0, 3, grid)
            for kind, values in (("images", image), ("masks", mask)):
                blocks = values.astype(np.uint8).repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
                path = folder / kind / split / f"{split}{index}.png"
                cv2.imwrite(str(path), blocks[:height, :width])
    (folder / "labelmap.txt").write_text(LABEL_MAP)
    return f"folder:{folder}"
