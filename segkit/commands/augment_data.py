"""Writes a labelled set with altered copies of its images: RGB, MASK and VIS_MASK.

The set is the raw_data folder (rgb, mask, obj_mask, bg, labelmap.txt) or, with --data, an export
of CVAT. The copies of an image are called <name>.aug1, <name>.aug2, ...: `segkit prepare` keeps
them in the split of their source.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.data.augmentation import Effect
    from segkit.data.augmentation_set import Done, ObjectsOf
    from segkit.data.reader import Reader
    from segkit.labels import LabelMap

__all__ = ["EFFECTS", "RAW_PATH", "Options", "run"]

# Those that change colours first: what comes in at the borders is then no picture of its own.
EFFECTS = ("background", "color", "equalize", "brightness", "blur", "shift", "rotate", "crop")
RAW_PATH = Path(__file__).resolve().parents[2] / "data_augmentation" / "raw_data"
PLAIN_SECONDS = 5.0  # between two progress lines


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to augment, by which effects, and where to write it."""

    data: str | None = None
    """An export of CVAT, as cvat:PATH, instead of the raw folders"""
    raw_path: Path = RAW_PATH
    """Folder of the raw folders"""
    rgb_path: Path | None = None
    """Folder of the images; rgb in --raw_path by default"""
    mask_path: Path | None = None
    """Folder of the masks; mask in --raw_path by default"""
    obj_mask_path: Path | None = None
    """Folder of the object masks; obj_mask in --raw_path by default"""
    label_map_path: Path | None = None
    """CVAT's labelmap.txt; the one in --raw_path by default"""
    bg_path: Path | None = None
    """Folder of pictures for the effect background; bg in --raw_path by default"""
    output_path: Path | None = None
    """Folder to write; augment in --raw_path by default"""
    overwrite: bool = False
    """Replace an earlier result"""

    effects: list[str] = field(default_factory=list)
    """Of background, color (of the objects), equalize, brightness, blur, shift, rotate, crop; all
    by default, background where there are pictures for it"""
    variants: int = 4
    """Copies an image"""
    probability: float = 0.5
    """Chance of each effect in each copy; a copy has one at least"""
    seed: int = 0
    """Another seed gives other copies"""
    max_shift: float = 0.25
    """shift: largest way, as a share of height and width"""
    max_angle: float = 30.0
    """rotate: largest angle, degrees"""
    min_crop: float = 0.6
    """crop: smallest part, as a share of height and width"""
    max_blur: float = 2.5
    """blur: largest standard deviation, pixels"""
    max_brightness: float = 70.0
    """brightness: largest change, grey levels of 255"""
    max_hue: float = 180.0
    """color: largest turn of an object's hue, degrees"""

    ignore_label: str | None = None
    """Name of a label whose pixels do not count"""
    background_label: str | None = None
    """Name of the label that becomes class 0; without it "background", and else the black one"""
    jpeg_quality: int = 95
    """Of the copies of JPEG images; copies of PNG images are PNG"""
    workers: int | None = None
    """Threads; one a core by default"""
    progress: Literal["auto", "none", "plain"] = "auto"
    """auto: a bar on a terminal, else plain lines"""

    def __post_init__(self) -> None:
        for name in self.effects:
            if name not in EFFECTS:
                raise ConfigError(
                    f"--effects has '{name}'", expected=f"some of {', '.join(EFFECTS)}"
                )
        if self.bg_path is not None and self.effects and "background" not in self.effects:
            raise ConfigError(
                "--bg_path is given, but --effects has no background",
                expected="both or neither of them",
            )
        for flag, right, expected in (
            ("variants", self.variants >= 1, "1 or more"),
            ("probability", 0 <= self.probability <= 1, "0 to 1"),
            ("seed", self.seed >= 0, "0 or more"),
            ("max_shift", 0 < self.max_shift < 1, "above 0 and below 1"),
            ("max_angle", 0 < self.max_angle <= 180, "above 0, at most 180"),
            ("min_crop", 0 < self.min_crop <= 1, "above 0, at most 1"),
            ("max_blur", self.max_blur > 0, "above 0"),
            ("max_brightness", 0 < self.max_brightness <= 255, "above 0, at most 255"),
            ("max_hue", 0 <= self.max_hue <= 180, "0 to 180"),
            ("jpeg_quality", 1 <= self.jpeg_quality <= 100, "1 to 100"),
            ("workers", self.workers is None or self.workers >= 1, "1 or more"),
        ):
            if not right:
                raise ConfigError(f"--{flag} is {getattr(self, flag)}", expected=expected)
        raw = ("rgb_path", "mask_path", "obj_mask_path", "label_map_path")
        given = [name for name in raw if getattr(self, name) is not None]
        if self.data is not None and given:
            raise ConfigError(
                f"--data and --{given[0]} are both given",
                expected="one set: an export, or the raw folders",
            )
        if self.data is not None and self.output_path is None:
            raise ConfigError(
                "--data is given without --output_path",
                expected="a folder to write, such as --output_path augmented",
            )

    def raw(self, name: str) -> Path:
        """One of the raw folders, or the label map."""
        flag = {"labelmap.txt": "label_map_path", "augment": "output_path"}.get(name)
        path: Path | None = getattr(self, flag or f"{name}_path")
        return path if path is not None else self.raw_path / name


def run(options: Options) -> None:
    """Writes the set and says what is in it and what to do with it."""
    from segkit.data.augmentation_set import Recipe, augment, output_folder

    start = time.perf_counter()
    output = options.raw("augment")
    reader, objects_of = _open(options)
    recipe = Recipe(
        effects=_effects(options, reader.labels),
        variants=options.variants,
        probability=options.probability,
        seed=options.seed,
        jpeg_quality=options.jpeg_quality,
    )
    print(f"{len(reader):,} images, {reader.labels.num_classes} classes", flush=True)
    print(f"writing {options.variants} copies of each to {output}", flush=True)
    images = copies = unchanged = bare = 0
    with (
        output_folder(output, overwrite=options.overwrite) as folder,
        closing(
            augment(reader, folder, recipe, objects_of=objects_of, workers=options.workers)
        ) as written,
        closing(_show(written, len(reader), options.progress)) as shown,
    ):
        for done in shown:
            images += 1
            copies += len(done.stems) - 1
            unchanged += done.unchanged
            bare += done.split not in (None, "train")
    if bare:
        print(f"{bare:,} images of val and test have no copies: scores are for images as they are")
    if unchanged:
        print(f"{unchanged:,} copies were left out: nothing in them could be altered")
    seconds = time.perf_counter() - start
    print(f"wrote {output}: {images:,} images and {copies:,} copies, in {seconds:.3g} s")


def _open(options: Options) -> tuple[Reader, ObjectsOf]:
    """The set, and what tells its objects apart."""
    from functools import partial

    from segkit.data.augmentation_objects import ObjectMasks, background_id, objects_by_class
    from segkit.data.augmentation_raw import read_raw
    from segkit.data.readers import open_reader, parse_kind
    from segkit.data.tree import open_tree

    reader: Reader
    objects: ObjectMasks | None = None
    if options.data is not None:
        print(f"reading {options.data}", flush=True)
        reader = open_reader(
            options.data, ignore=options.ignore_label, background=options.background_label
        )
        kind, path = parse_kind(options.data)
        objects = ObjectMasks(open_tree(path)) if kind == "cvat" else None
    else:
        rgb, mask, obj_mask = (options.raw(name) for name in ("rgb", "mask", "obj_mask"))
        print(f"reading {rgb} and {mask}", flush=True)
        reader = read_raw(
            rgb,
            mask,
            options.raw("labelmap.txt"),
            ignore=options.ignore_label,
            background=options.background_label,
        )
        if options.obj_mask_path is not None or obj_mask.is_dir():
            objects = ObjectMasks(open_tree(obj_mask), "")
            if objects.stems:
                objects.check_pairs(frozenset(sample.stem for sample in reader))
    if objects is not None and objects.stems:
        return reader, objects
    if "color" in (options.effects or EFFECTS):
        print("there are no object masks: the pixels of a class count as one object", flush=True)
    background = background_id(reader.labels, options.background_label)
    return reader, partial(objects_by_class, background=background)


def _effects(options: Options, labels: LabelMap) -> tuple[Effect, ...]:
    """The chosen effects, in the order in which they are applied."""
    from segkit.data import augmentation as effects

    known: dict[str, Callable[[], Effect | None]] = {
        "background": lambda: _background(options, labels),
        "color": lambda: effects.Color(options.max_hue),
        "equalize": effects.Equalize,
        "brightness": lambda: effects.Brightness(options.max_brightness),
        "blur": lambda: effects.Blur(options.max_blur),
        "shift": lambda: effects.Shift(options.max_shift),
        "rotate": lambda: effects.Rotate(options.max_angle),
        "crop": lambda: effects.Crop(options.min_crop, max(options.min_crop, 0.95)),
    }
    chosen = {name: known[name]() for name in EFFECTS if name in (options.effects or EFFECTS)}
    used = {name: effect for name, effect in chosen.items() if effect is not None}
    print(f"effects: {', '.join(used)}", flush=True)
    return tuple(used.values())


def _background(options: Options, labels: LabelMap) -> Effect | None:
    """The effect; None where nobody asked for it and there is nothing for it."""
    from segkit.data.augmentation import Background
    from segkit.data.augmentation_objects import background_id
    from segkit.data.augmentation_raw import files_by_stem
    from segkit.data.images import IMAGE_SUFFIXES
    from segkit.errors import DataError

    asked = options.bg_path is not None or "background" in options.effects
    folder = options.raw("bg")
    if not asked and (options.data is not None or not folder.is_dir()):
        return None
    pictures = files_by_stem(folder, IMAGE_SUFFIXES)
    class_id = background_id(labels, options.background_label)
    if asked and class_id is None:
        raise DataError(
            "the effect background is asked for, but the set has no background class",
            expected=f"the background among {', '.join(labels.names[:20])}",
            next_step="name it with --background_label, or leave the effect out",
        )
    if asked and not pictures:
        raise DataError(
            f"there are no pictures in '{folder}'",
            expected=f"{', '.join(IMAGE_SUFFIXES)} files to put behind the objects",
            next_step="copy some there, or name their folder with --bg_path",
        )
    if class_id is None or not pictures:
        return None
    return Background(tuple(pictures[stem] for stem in sorted(pictures)), class_id)


def _show(written: Iterable[Done], total: int, mode: str) -> Generator[Done, None, None]:
    """Passes everything on and says how far it is: a bar on a terminal, else a line at times."""
    if mode == "auto" and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(
            written, "augmenting", total=total, console=Console(stderr=True), transient=True
        )
        return
    last = time.perf_counter()
    for number, done in enumerate(written, start=1):
        yield done
        if mode != "none" and time.perf_counter() - last >= PLAIN_SECONDS:
            last = time.perf_counter()
            print(f"image {number:,} of {total:,} ({number / total:.0%})", flush=True)
