"""Writes masks of nothing but background for the images that have none.

CVAT writes no masks for images without shapes. Nothing that exists is overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segkit.commands.augment_data import RAW_PATH

__all__ = ["Options", "run"]

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where the images and their masks are."""

    raw_path: Path = RAW_PATH
    """Folder of the raw folders"""
    rgb_path: Path | None = None
    """Folder of the images; rgb in --raw_path by default"""
    mask_path: Path | None = None
    """Folder of the masks; mask in --raw_path by default"""
    obj_mask_path: Path | None = None
    """Folder of the object masks; obj_mask in --raw_path by default"""
    label_map_path: Path | None = None
    """CVAT's labelmap.txt; the one in --raw_path, if any, else the background is black"""
    background_label: str | None = None
    """Name of the label that is the background; without it "background", and else the black one"""


def run(options: Options) -> None:
    """Writes the masks and says for how many images."""
    from segkit.data.augmentation_raw import write_blanks
    from segkit.labels import LabelMap

    rgb, mask, obj_mask = (
        given if given is not None else options.raw_path / name
        for given, name in (
            (options.rgb_path, "rgb"),
            (options.mask_path, "mask"),
            (options.obj_mask_path, "obj_mask"),
        )
    )
    label_map = options.label_map_path or options.raw_path / "labelmap.txt"
    color = (0, 0, 0)
    if options.label_map_path or options.background_label or label_map.exists():
        color = LabelMap.read(label_map, background=options.background_label).labels[0].color
    print(f"looking for images of '{rgb}' that have no mask", flush=True)
    blanks = write_blanks(rgb, mask, obj_mask, color=color)
    for stems, problem in (
        (blanks.without_mask, "an object mask but no mask"),
        (blanks.without_objects, "a mask but no object mask"),
    ):
        if stems:
            shown = ", ".join(stems[:_SHOWN]) + (", ..." if len(stems) > _SHOWN else "")
            print(f"{len(stems):,} images have {problem} and were left alone: {shown}")
    print(f"wrote {len(blanks.written):,} masks to {mask} and {obj_mask}", flush=True)
