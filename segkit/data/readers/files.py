"""What all readers of image and mask files share: pairing, loading, findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segkit.data.images import ImageInfo, check_image, open_mask
from segkit.data.reader import Finding, Kind, Pair, Sample, SampleError
from segkit.data.readers.masks import MaskRule
from segkit.data.splits import SPLITS
from segkit.data.tree import Tree
from segkit.errors import DataError
from segkit.labels import IGNORE_ID, LabelMap

__all__ = [
    "FileReader",
    "Files",
    "by_stem",
    "folder_before",
    "load_pair",
    "pair",
    "same_name",
    "split_of",
    "text",
    "unpaired",
    "without_suffix",
]

# What people call the three; CVAT's own subsets are Train, Validation and Test.
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


class Files(NamedTuple):
    """One sample: names of its files, its split where the set says it. No mask: `blank_id`."""

    image: str
    mask: str | None
    split: str | None = None


class FileReader:
    """A labelled set of image files and mask files, see segkit.data.reader.Reader.

    Args:
        labels: The classes.
        files: Stem -> its files.
        read: Gives the content of a file by its name; called from several threads.
        rule: Turns a mask file into class ids.
        findings: What does not fit and is not among `files`.
        blank_id: Class id of every pixel of a sample without a mask file.
    """

    def __init__(
        self,
        labels: LabelMap,
        files: Mapping[str, Files],
        *,
        read: Callable[[str], bytes],
        rule: MaskRule,
        findings: Iterable[Finding] = (),
        blank_id: int = 0,
    ) -> None:
        self.labels = labels
        self.findings = tuple(findings)
        self._files = files
        self._read = read
        self._rule = rule
        self._blank_id = blank_id

    @property
    def blank(self) -> tuple[str, ...]:
        """Stems of the samples without a mask file."""
        return tuple(stem for stem in sorted(self._files) if self._files[stem].mask is None)

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self._files)

    def __iter__(self) -> Iterator[Sample]:
        """The samples, in the order of their stems."""
        for stem in sorted(self._files):
            files = self._files[stem]
            yield Sample(stem, files.split, partial(self._load, files))

    def _load(self, files: Files) -> Pair:
        with _found(Kind.DAMAGED_IMAGE, files.image):
            image = self._read(files.image)
        if files.mask is None:
            info = _check(image, files.image)
            blank = np.full((info.height, info.width), self._blank_id, np.uint8)
            return Pair(image, info.suffix, blank)
        with _found(Kind.DAMAGED_MASK, files.mask):
            mask = self._read(files.mask)
        pair = load_pair(files, image, mask, rule=self._rule)
        if self.labels.num_classes > 1 and _is_binary(pair.mask) and self._all_binary:
            problem = (
                f"mask '{files.mask}' holds nothing but 0 and {IGNORE_ID}, like all masks of the "
                f"set: {IGNORE_ID} means ignored, so there would be nothing to learn"
            )
            raise SampleError(
                Finding(Kind.BINARY, files.mask, problem, _MEND_BINARY),
                expected=f"class ids 0..{self.labels.num_classes - 1}",
            )
        return pair

    @cached_property
    def _all_binary(self) -> bool:
        """Whether no mask holds a class besides 0.

        One mask alone does not tell: a blank image that was turned is 0 with an ignored border.
        """
        for files in self._files.values():
            try:
                name = files.mask or ""
                ids = self._rule(open_mask(self._read(name), source=name), name) if name else None
            except DataError:
                continue
            if ids is not None and ((ids != 0) & (ids != IGNORE_ID)).any():
                return False
        return True


_MEND_BINARY = f"write 1 instead of {IGNORE_ID} into the masks, if it stands for a class"


def _is_binary(ids: npt.NDArray[np.uint8]) -> bool:
    return bool(ids.max() == IGNORE_ID and ((ids == 0) | (ids == IGNORE_ID)).all())


def load_pair(files: Files, image: bytes, mask: bytes, *, rule: MaskRule) -> Pair:
    """Decodes an image and its mask, and checks that they fit.

    Raises:
        SampleError: They do not, or one is damaged.
    """
    mask_name = str(files.mask)
    info = _check(image, files.image)
    with _found(Kind.DAMAGED_MASK, mask_name):
        opened = open_mask(mask, source=mask_name)
    ids = rule(opened, mask_name)
    if ids.shape != (info.height, info.width):
        problem = (
            f"image '{files.image}' is {info.width}x{info.height}, its mask '{mask_name}' "
            f"{ids.shape[1]}x{ids.shape[0]}"
        )
        next_step = "export images and masks from the same task"
        if info.turned:
            next_step = "rotate it as its EXIF tag says, without the tag, and label it again"
        raise SampleError(
            Finding(Kind.SIZE, mask_name, problem, next_step),
            expected="an image and a mask of one size (width x height)",
        )
    return Pair(image, info.suffix, ids)


def _check(image: bytes, name: str) -> ImageInfo:
    with _found(Kind.DAMAGED_IMAGE, name):
        return check_image(image, source=name)


@contextmanager
def _found(kind: Kind, file: str) -> Iterator[None]:
    """Turns a DataError into a SampleError of a kind."""
    try:
        yield
    except DataError as err:
        finding = Finding(kind, file, err.problem, err.next_step)
        raise SampleError(finding, expected=err.expected) from err


# === Names ===


def by_stem(
    names: Iterable[str], folder: str, suffixes: tuple[str, ...]
) -> tuple[dict[str, str], list[Finding]]:
    """Stem (with sub-folders) -> name, for the files in a folder that end on one of the suffixes.

    Of two files of one stem the first by name is taken, the other one is a finding.
    """
    found: dict[str, str] = {}
    findings = []
    for name in sorted(names):
        stem = without_suffix(name[len(folder) :], suffixes)
        if not name.startswith(folder) or stem == name[len(folder) :]:
            continue
        if stem in found:
            findings.append(same_name(found[stem], name))
        else:
            found[stem] = name
    return found, findings


def same_name(first: str, second: str) -> Finding:
    """The finding for two files that would be one sample."""
    problem = f"'{first}' and '{second}' have the same name but for the suffix or the folder"
    return Finding(Kind.SAME_NAME, second, problem, "rename one of them, or remove it")


def pair(
    images: Mapping[str, str], masks: Mapping[str, str], split: str | None = None
) -> tuple[dict[str, Files], list[Finding]]:
    """Pairs images and masks by stem; what has no other half is a finding."""
    files = {
        stem: Files(images[stem], masks[stem], split) for stem in sorted(images.keys() & masks)
    }
    return files, [
        *unpaired(Kind.IMAGE_WITHOUT_MASK, [images[x] for x in images.keys() - masks.keys()]),
        *unpaired(Kind.MASK_WITHOUT_IMAGE, [masks[x] for x in masks.keys() - images.keys()]),
    ]


_NEXT_STEP = {
    Kind.IMAGE_WITHOUT_MASK: "add its mask, a PNG of the same name, or take the image out; "
    "data_augmentation/make_blank_label.py writes masks of nothing but background",
    Kind.MASK_WITHOUT_IMAGE: "add the image, or take the mask out; they pair by name",
    Kind.LISTED_WITHOUT_IMAGE: "add the image, or take its line out of the list",
}


def unpaired(kind: Kind, names: Iterable[str]) -> list[Finding]:
    """Findings of one of the kinds of what does not pair."""
    what = {
        Kind.IMAGE_WITHOUT_MASK: "the image '{}' has no mask",
        Kind.MASK_WITHOUT_IMAGE: "the mask '{}' has no image",
        Kind.LISTED_WITHOUT_IMAGE: "the list names '{}', of which there is no image",
    }[kind]
    return [Finding(kind, name, what.format(name), _NEXT_STEP[kind]) for name in sorted(names)]


def without_suffix(name: str, suffixes: tuple[str, ...]) -> str:
    """The name without the suffix that it ends on; itself if it ends on none."""
    # Not PurePath.stem: a frame may be called "drive.0001".
    for suffix in suffixes:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def split_of(word: str) -> str | None:
    """The split that a folder or a list of this name is; None if it is none."""
    return _SPLITS.get(word.lower())


def folder_before(tree: Tree, marker: str) -> str:
    """The folder, "" or ending on "/", in which a folder `marker` (ending on "/") lies.

    Of several the one nearest to the root; "" where there is none.
    """
    places = ((name, f"/{name}".find(f"/{marker}")) for name in tree.names)
    found = {name[:place] for name, place in places if place >= 0}
    return min(found, key=lambda folder: (len(PurePosixPath(folder).parts), folder), default="")


def text(tree: Tree, name: str) -> str:
    """The content of a text file.

    Raises:
        DataError: It is not UTF-8 text.
    """
    try:
        return tree.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise DataError(
            f"'{name}' of '{tree.path}' is not UTF-8 text",
            expected=f"a text file; a list holds names, one a line ({', '.join(SPLITS)})",
        ) from err
