"""Packs a labelled set into full_semantic.zip, which `tfds build` turns into a data set.

Images keep their bytes, masks become class ids. Where the set has a train and a val of its own,
that is the split; otherwise a share of the source images is.

KIND is one of cvat, folder, full_semantic, cityscapes, camvid, ade20k, voc; docs/data.md shows
their layouts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segkit.errors import ConfigError

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to pack, and how to split it."""

    data: str
    """The set, as KIND:PATH; cvat:PATH is an export in the format "Segmentation mask 1.1" with
    images, its folder or its zip"""
    output: Path = Path("full_semantic.zip")
    """The archive to write"""
    val_share: float | None = None
    """Share of the images for val; without it the set's own split counts, and else 0.1"""
    ignore_label: str | None = None
    """Name of a label whose pixels do not count"""
    background_label: str | None = None
    """Of a CVAT export: name of the label that becomes class 0; without it "background", and else
    the black one"""
    seed: int = 0
    """Another seed puts other images into val"""
    overwrite: bool = False
    """Replace an existing archive"""

    def __post_init__(self) -> None:
        if self.val_share is not None and not 0 < self.val_share < 1:
            raise ConfigError(
                f"--val_share is {self.val_share}",
                expected="above 0 and below 1, such as 0.1 for every tenth image",
            )


def run(options: Options) -> None:
    """Packs the archive and says what is in it and what to do with it."""
    import time

    from segkit.data.archive import default_data_dir, next_steps, pack
    from segkit.data.readers import open_reader

    start = time.perf_counter()
    print(f"reading {options.data}", flush=True)
    reader = open_reader(
        options.data, ignore=options.ignore_label, background=options.background_label
    )
    blank = len(getattr(reader, "blank", ()))
    print(f"{len(reader):,} images, {reader.labels.num_classes} classes", flush=True)
    if blank:
        print(f"{blank:,} of them have no mask and count as background", flush=True)
    packed = pack(
        reader,
        options.output,
        val_share=options.val_share,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    _print_classes(reader.labels.names, packed.pixels.tolist())
    shares = ", ".join(f"{split} {len(stems):,}" for split, stems in packed.splits.items())
    size = packed.path.stat().st_size / 1e6
    seconds = time.perf_counter() - start
    print(f"split: {shares}")
    print(f"wrote {packed.path}, {size:,.3g} MB, in {seconds:.3g} s")
    print("next:")
    for command in next_steps(packed.path, default_data_dir()):
        print(f"  {command}", flush=True)


def _print_classes(names: tuple[str, ...], pixels: list[int]) -> None:
    """The table of classes with their share of all pixels."""
    total = sum(pixels) or 1
    width = max(len(name) for name in (*names, "ignored"))
    print("  id  class".ljust(width + 6) + "  pixels")
    rows = [(str(id_), name, pixels[id_]) for id_, name in enumerate(names)]
    if pixels[255]:
        rows.append(("255", "ignored", pixels[255]))
    for id_, name, count in rows:
        note = "" if count else "   nowhere in the masks"
        print(f"{id_:>4}  {name:<{width}}  {100 * count / total:6.3g} %{note}")
