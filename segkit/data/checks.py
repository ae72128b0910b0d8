"""Goes through a labelled set once and says all that is wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segkit.data.parallel import in_order
from segkit.data.reader import Finding, Kind, Reader, Sample, SampleError
from segkit.data.splits import leaks
from segkit.errors import DataError
from segkit.labels import IGNORE_ID, LabelMap

__all__ = ["WARNINGS", "Report", "check"]

# What deserves a look and no refusal; every other kind is an error.
WARNINGS = frozenset(
    {Kind.SAME_PICTURE, Kind.CLASS_NEVER_SEEN, Kind.NOTHING_LABELLED, Kind.EMPTY_SPLIT}
)

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a set holds, and what is wrong with it.

    Attributes:
        labels: The classes.
        images: Split (None where the set has none) -> number of images, those that cannot be read
            among them.
        pixels: Split -> pixels of each class id, int64 (256,); 255 are ignored.
        images_with: Split -> images that have each class id, likewise.
        sizes: (height, width) -> number of images.
        findings: All that is wrong, kind after kind.
    """

    labels: LabelMap
    images: Mapping[str | None, int]
    pixels: Mapping[str | None, Counts]
    images_with: Mapping[str | None, Counts]
    sizes: Mapping[tuple[int, int], int]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings with which nobody should train."""
        return tuple(finding for finding in self.findings if finding.kind not in WARNINGS)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that deserve a look."""
        return tuple(finding for finding in self.findings if finding.kind in WARNINGS)


def check(
    reader: Reader,
    *,
    workers: int | None = None,
    on_sample: Callable[[int], None] = lambda count: None,
) -> Report:
    """Loads every sample once, on all cores.

    One picture is in two places where the decoded pixels are the same, whatever the file's name
    and format; a JPEG that was packed anew is another picture.

    Args:
        reader: The set.
        workers: Number of threads. None: one a core.
        on_sample: Called after each sample with how many are done.
    """
    samples = list(reader)
    seen = _Seen()
    with closing(in_order(_look, samples, workers=workers)) as looks:
        for count, (sample, look) in enumerate(zip(samples, looks, strict=True), start=1):
            seen.add(sample, look)
            on_sample(count)
    findings = [
        *reader.findings,
        *seen.findings,
        *_copies_apart(samples, reader.findings),
        *_same_pictures(seen.by_digest),
        *_classes(seen, reader.labels),
        *_empty_splits(seen.images),
    ]
    order = list(Kind)
    return Report(
        labels=reader.labels,
        images=dict(seen.images),
        pixels=dict(seen.pixels),
        images_with=dict(seen.images_with),
        sizes=dict(seen.sizes),
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.kind))),
    )


class _Look(NamedTuple):
    """What one sample showed: height and width, pixels of each class id, digest of the picture."""

    finding: Finding | None
    size: tuple[int, int] = (0, 0)
    counts: Counts | None = None
    digest: bytes = b""


@dataclass
class _Seen:
    """What all samples showed."""

    images: Counter[str | None] = field(default_factory=Counter)
    pixels: dict[str | None, Counts] = field(default_factory=dict)
    images_with: dict[str | None, Counts] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    by_digest: defaultdict[bytes, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    findings: list[Finding] = field(default_factory=list)

    def add(self, sample: Sample, look: _Look) -> None:
        self.images[sample.split] += 1
        if look.finding is not None:
            self.findings.append(look.finding)
        if look.counts is None:
            return
        for totals, counts in (
            (self.pixels, look.counts),
            (self.images_with, (look.counts > 0).astype(np.int64)),
        ):
            totals[sample.split] = totals.get(sample.split, 0) + counts
        self.sizes[look.size] += 1
        self.by_digest[look.digest].append(sample)


def _look(sample: Sample) -> _Look:
    """Called from several threads."""
    try:
        pair = sample.load()
    except SampleError as err:
        return _Look(err.finding)
    except DataError as err:
        return _Look(Finding(Kind.DAMAGED_IMAGE, sample.stem, err.problem, err.next_step))
    counts = np.bincount(pair.mask.ravel(), minlength=256)
    finding = None
    if counts[IGNORE_ID] == pair.mask.size:
        problem = f"every pixel of '{sample.stem}' is ignored"
        finding = Finding(
            Kind.NOTHING_LABELLED, sample.stem, problem, "label it, or take the image out"
        )
    height, width = pair.mask.shape
    return _Look(finding, (height, width), counts, _digest(pair.image))


def _digest(image: bytes) -> bytes:
    """Of the pixels, as they are stored."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), flags)
    # What OpenCV cannot decode although Pillow can is told apart by its bytes.
    content = image if pixels is None else pixels.tobytes() + str(pixels.shape).encode()
    return blake2b(content, digest_size=16).digest()


# === Findings of the whole set ===


def _copies_apart(samples: Sequence[Sample], known: Sequence[Finding]) -> list[Finding]:
    """Augmented copies of one source in two splits, where the reader did not find them."""
    splits: dict[str, list[str]] = {}
    for sample in samples:
        if sample.split is not None:
            splits.setdefault(sample.split, []).append(sample.stem)
    there = {finding.file for finding in known if finding.kind is Kind.LEAK}
    return [finding for finding in leaks(splits) if finding.file not in there]


def _same_pictures(by_digest: Mapping[bytes, Sequence[Sample]]) -> Iterator[Finding]:
    for samples in by_digest.values():
        for sample in samples[1:]:
            other = next((x for x in samples if x.split != sample.split), samples[0])
            if other.split == sample.split:
                problem = f"'{other.stem}' and '{sample.stem}' are the same picture"
                next_step = "take one of them out: it counts twice"
                yield Finding(Kind.SAME_PICTURE, sample.stem, problem, next_step)
            else:
                problem = (
                    f"'{other.stem}' in {other.split or 'no split'} and '{sample.stem}' in "
                    f"{sample.split or 'no split'} are the same picture"
                )
                next_step = "take it out of one of them: scores on what was trained on mean nothing"
                yield Finding(Kind.SAME_PICTURE_IN_SPLITS, sample.stem, problem, next_step)


def _classes(seen: _Seen, labels: LabelMap) -> Iterator[Finding]:
    total = sum(seen.pixels.values(), np.zeros(256, np.int64))
    train, val = (seen.pixels.get(split) for split in ("train", "val"))
    for id_, name in enumerate(labels.names):
        if not total[id_]:
            yield Finding(
                Kind.CLASS_NEVER_SEEN,
                name,
                f"no mask has the class {id_}, '{name}'",
                "label it somewhere, or take it out of the label map: it cannot be learned",
            )
        elif train is not None and val is not None and not train[id_] and val[id_]:
            yield Finding(
                Kind.CLASS_MISSING_IN_TRAIN,
                name,
                f"the class {id_}, '{name}', is in val and not in train",
                "move images that have it to train: it cannot be learned",
            )


def _empty_splits(images: Mapping[str | None, int]) -> Iterator[Finding]:
    known = {split for split in images if split is not None}
    for split in ("train", "val"):
        if known and split not in known:
            problem = f"the set has {', '.join(sorted(known))} and no {split}"
            next_step = f"add {split} images, or let 'prepare --val_share 0.1' make the split"
            yield Finding(Kind.EMPTY_SPLIT, split, problem, next_step)
