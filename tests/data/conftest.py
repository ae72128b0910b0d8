"""Tiny labelled sets on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tiny_sets import COLORS, LABEL_MAP, ids, jpeg, png, write


@pytest.fixture
def cvat_export(tmp_path: Path) -> Callable[..., Path]:
    """Writes a CVAT export: images a, b, c and d/e of which c has no mask, then `changes`.

    A change to None removes the file.
    """

    def make(changes: Mapping[str, bytes | str | None] | None = None) -> Path:
        files: dict[str, bytes | str | None] = {
            "labelmap.txt": LABEL_MAP,
            "ImageSets/Segmentation/default.txt": "a\nb\nc\nd/e\n",
        }
        for seed, stem in enumerate(("a", "b", "c", "d/e")):
            files[f"JPEGImages/{stem}.jpg"] = jpeg(seed)
            if stem != "c":
                files[f"SegmentationClass/{stem}.png"] = png(COLORS[ids(seed)])
        files |= changes or {}
        kept = {name: content for name, content in files.items() if content is not None}
        return write(tmp_path / "export", kept)

    return make
