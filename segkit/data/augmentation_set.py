"""Writes a labelled set with altered copies of its images, as a folder that `prepare` packs.

    RGB/<stem>.jpg or .png         the images, byte for byte as they were found
    RGB/<stem>.aug<N>.jpg or .png  their copies, in the format of their source
    MASK/<stem>.png ...            8-bit class ids, 255 ignored
    VIS_MASK/<stem>.png ...        the same in the label colours, to look at
    labelmap.txt                   name:r,g,b:: , the line is the class id
    train.txt val.txt              stems, where the set has a split of its own

Only what is for training gets copies: a score on altered images would measure another task.
"""

from __future__ import annotations

import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from segkit.data.augmentation import Effect, Mask, alter, generator
from segkit.data.images import encode_mask
from segkit.data.parallel import in_order
from segkit.data.pixels import decode_image, encode_image
from segkit.data.reader import Reader, Sample, require_complete
from segkit.data.splits import SPLITS
from segkit.errors import DataError
from segkit.labels import IGNORE_ID, LabelMap

__all__ = ["Done", "ObjectsOf", "Recipe", "augment", "output_folder"]

_FOLDERS = ("RGB", "MASK", "VIS_MASK")
_LABEL_MAP = "labelmap.txt"
_OWN_NAMES = {*_FOLDERS, _LABEL_MAP, *(f"{split}.txt" for split in SPLITS)}
# Pascal VOC's colour of what is not labelled: black would look like background.
_IGNORE_COLOR = (224, 224, 192)

# Numbers the objects of a sample: uint16, (H, W), 0 where none is. Called with stem and mask.
ObjectsOf = Callable[[str, Mask], npt.NDArray[np.uint16]]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the copies are.

    Args:
        effects: What may happen to a copy, in this order.
        variants: Copies an image.
        probability: Of each effect, in each copy.
        seed: Another seed gives other copies.
        jpeg_quality: Of the copies of JPEG images, 1..100.
    """

    effects: tuple[Effect, ...]
    variants: int = 4
    probability: float = 0.5
    seed: int = 0
    jpeg_quality: int = 95


class Done(NamedTuple):
    """One image and its copies, written: their stems, its split, copies that came out unchanged."""

    stems: tuple[str, ...]
    split: str | None
    unchanged: int


@contextmanager
def output_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write into, which becomes `path` when all went well and vanishes if not.

    Args:
        path: What is to be written.
        overwrite: Replace an earlier result. A folder of anything else is never replaced.

    Raises:
        DataError: There is something at `path`, or it cannot be written.
    """
    path = path.resolve()
    _check_free(path, overwrite=overwrite)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        _replace(path, partial)
    except OSError as err:
        raise DataError(
            f"'{path}' cannot be written: {err.strerror}",
            expected="a folder that you may write to, with room for the images",
            next_step="choose another --output_path",
        ) from err
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def augment(
    reader: Reader,
    folder: Path,
    recipe: Recipe,
    *,
    objects_of: ObjectsOf,
    workers: int | None = None,
) -> Generator[Done, None, None]:
    """Writes a set and its copies into an empty folder, image after image, on all cores.

    The same set, recipe and seed give the same bytes, whatever the number of workers.

    Close it before the folder is removed: until then its threads write.

    Args:
        reader: The set.
        folder: Where to write; see the top of this module.
        recipe: What the copies are.
        objects_of: Numbers the objects of a sample.
        workers: Number of threads. None: one a core.

    Yields:
        What was written, in the order of the stems.

    Raises:
        DataError: Some files of the set do not fit, or a sample cannot be used; the message names
            the file.
    """
    require_complete(reader)
    samples = list(reader)
    _check_stems(samples, recipe.variants)
    stop = Event()
    writer = _Writer(folder, reader.labels, recipe, objects_of, stop)
    (folder / _LABEL_MAP).write_text(reader.labels.dump(), encoding="utf-8")
    splits: dict[str, list[str]] = {}
    with closing(in_order(writer, samples, workers=workers, stop=stop)) as written:
        for done in written:
            splits.setdefault(done.split or "train", []).extend(done.stems)
            yield done
    if "train" in splits and "val" in splits:
        for split in SPLITS:
            if split in splits:
                lines = "".join(f"{stem}\n" for stem in splits[split])
                (folder / f"{split}.txt").write_text(lines, encoding="utf-8")


@dataclass(frozen=True)
class _Writer:
    """Writes one sample and its copies; called from several threads."""

    folder: Path
    labels: LabelMap
    recipe: Recipe
    objects_of: ObjectsOf
    stop: Event

    def __call__(self, sample: Sample) -> Done:
        pair = sample.load()
        self._write(sample.stem, pair.suffix, pair.image, pair.mask)
        stems, unchanged = [sample.stem], 0
        if sample.split in (None, "train"):
            image = decode_image(pair.image, source=sample.stem + pair.suffix)
            example = (image, pair.mask, self.objects_of(sample.stem, pair.mask))
            for number in range(1, self.recipe.variants + 1):
                if self.stop.is_set():
                    break
                copy = alter(
                    example,
                    self.recipe.effects,
                    probability=self.recipe.probability,
                    rng=generator(self.recipe.seed, sample.stem, number),
                )
                if copy is None:
                    unchanged += 1
                    continue
                stem = f"{sample.stem}.aug{number}"
                data = encode_image(copy[0], pair.suffix, jpeg_quality=self.recipe.jpeg_quality)
                self._write(stem, pair.suffix, data, copy[1])
                stems.append(stem)
        return Done(tuple(stems), sample.split, unchanged)

    def _write(self, stem: str, suffix: str, image: bytes, mask: Mask) -> None:
        files = (image, encode_mask(mask), _encode_colors(mask, self.labels))
        for name, ending, data in zip(_FOLDERS, (suffix, ".png", ".png"), files, strict=True):
            path = self.folder / name / (stem + ending)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def _encode_colors(mask: Mask, labels: LabelMap) -> bytes:
    """A palette PNG: every viewer shows the label colours, at the size of a grey one."""
    palette = labels.palette()
    if labels.ignore is None:
        palette[IGNORE_ID] = _IGNORE_COLOR
    picture = PillowImage.fromarray(mask)
    picture.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _check_stems(samples: Sequence[Sample], variants: int) -> None:
    """Refuses a set of which some copies exist already."""
    written: Counter[str] = Counter()
    for sample in samples:
        written[sample.stem] += 1
        written.update(f"{sample.stem}.aug{number}" for number in range(1, variants + 1))
    twice = [stem for stem, count in written.items() if count > 1]
    if twice:
        raise DataError(
            f"two files would be called '{twice[0]}' ({len(twice)} such names in all)",
            expected="a name of its own for every image and every copy",
            next_step="rename the image, or give the set from before it was augmented",
        )


def _replace(path: Path, new: Path) -> None:
    """Puts a folder in the place of another one, which comes back if that fails."""
    if not path.exists():
        new.replace(path)
        return
    old = path.with_name(f".{path.name}.{os.getpid()}.replaced")
    path.replace(old)
    try:
        new.replace(path)
    except BaseException:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_free(path: Path, *, overwrite: bool) -> None:
    if not path.exists():
        return
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else {path.name}
    foreign = sorted(names - _OWN_NAMES)
    if foreign:
        raise DataError(
            f"'{path}' holds '{foreign[0]}', which no augmentation wrote",
            expected=f"a new folder, or an earlier result with nothing but {', '.join(_FOLDERS)} "
            "and lists in it",
            next_step="choose another --output_path",
        )
    if names and not overwrite:
        raise DataError(
            f"'{path}' exists",
            expected="a new folder",
            next_step="choose another --output_path, or replace it with --overwrite",
        )
