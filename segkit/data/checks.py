"""Goes through a labelled set once and says all that is wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import cv2
import numpy as np

from segkit.data.check_report import WARNINGS, Counts, Report, SplitReport
from segkit.data.parallel import in_order
from segkit.data.reader import Finding, Kind, Reader, Sample, SampleError
from segkit.data.splits import SPLITS, leaks, source_of
from segkit.errors import DataError
from segkit.labels import IGNORE_ID, LabelMap

__all__ = ["check"]


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
        loaded = zip(samples, _splits(samples), looks, strict=True)
        for count, (sample, split, look) in enumerate(loaded, start=1):
            seen.add(sample.stem, split, look)
            on_sample(count)
    order = ("all", *SPLITS, "no split")
    splits = {name: seen.splits[name] for name in order if name in seen.splits}
    findings = [
        *reader.findings,
        *seen.findings,
        *_copies_apart(samples, reader.findings),
        *_same_pictures(seen.by_digest.values()),
        *_classes(splits, reader.labels),
        *_empty_splits(splits),
    ]
    rank = sorted(Kind, key=lambda kind: kind in WARNINGS)
    return Report(
        labels=reader.labels,
        splits=splits,
        sizes=dict(seen.sizes),
        findings=tuple(sorted(findings, key=lambda finding: rank.index(finding.kind))),
    )


class _Place(NamedTuple):
    stem: str
    split: str


class _Look(NamedTuple):
    """What one sample showed: height and width, pixels of each class id, digest of the picture."""

    finding: Finding | None
    size: tuple[int, int] = (0, 0)
    counts: Counts | None = None
    digest: bytes = b""


@dataclass
class _Seen:
    """What all samples showed."""

    splits: defaultdict[str, SplitReport] = field(default_factory=lambda: defaultdict(SplitReport))
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    by_digest: defaultdict[bytes, list[_Place]] = field(default_factory=lambda: defaultdict(list))
    findings: list[Finding] = field(default_factory=list)

    def add(self, stem: str, split: str, look: _Look) -> None:
        self.splits[split].images += 1
        if look.finding is not None:
            self.findings.append(look.finding)
        if look.counts is not None:
            self.splits[split].add(look.counts)
            self.sizes[look.size] += 1
            self.by_digest[look.digest].append(_Place(stem, split))


def _splits(samples: Sequence[Sample]) -> list[str]:
    """The split of each sample, as `prepare` sees it: beside train and val, no split is train."""
    own = {sample.split for sample in samples}
    none = "train" if {"train", "val"} <= own else "no split" if own > {None} else "all"
    return [sample.split or none for sample in samples]


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
        next_step = "label it, or take the image out"
        finding = Finding(Kind.NOTHING_LABELLED, sample.stem, problem, next_step)
    height, width = pair.mask.shape
    return _Look(finding, (height, width), counts, _digest(pair.image))


def _digest(image: bytes) -> bytes:
    """Of the pixels, as they are stored."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), flags)
    if pixels is None:  # Pillow can decode it: then it is told apart by its bytes
        return blake2b(image, digest_size=16).digest()
    found = blake2b(str(pixels.shape).encode(), digest_size=16)
    found.update(pixels.data)
    return found.digest()


# === Findings of the whole set ===


def _copies_apart(samples: Sequence[Sample], known: Sequence[Finding]) -> list[Finding]:
    """Augmented copies of one source in two splits, where the reader did not find them."""
    stems = {split: [x.stem for x in samples if x.split == split] for split in SPLITS}
    there = {source_of(finding.file) for finding in known if finding.kind is Kind.LEAK}
    return [finding for finding in leaks(stems) if source_of(finding.file) not in there]


def _same_pictures(groups: Iterable[Sequence[_Place]]) -> Iterator[Finding]:
    """One finding for each place of a picture after the first."""
    for places in groups:
        first_of: dict[str, _Place] = {}
        for place in places:
            twin = first_of.setdefault(place.split, place)
            other = places[0] if twin is place else twin
            if other is place:
                continue
            if other.split == place.split or not {other.split, place.split} <= set(SPLITS):
                problem = f"'{other.stem}' and '{place.stem}' are the same picture"
                yield Finding(Kind.SAME_PICTURE, place.stem, problem, _MEND_TWICE)
            else:
                problem = (
                    f"'{other.stem}' in {other.split} and '{place.stem}' in {place.split} are the "
                    "same picture"
                )
                yield Finding(Kind.SAME_PICTURE_IN_SPLITS, place.stem, problem, _MEND_IN_SPLITS)


def _classes(splits: Mapping[str, SplitReport], labels: LabelMap) -> Iterator[Finding]:
    """Classes that cannot be learned. Says nothing of a set that cannot be read at all."""
    pixels = {split: part.pixels[:IGNORE_ID] for split, part in splits.items() if part.loaded}
    if not pixels:
        return
    total = sum(pixels.values(), np.zeros(IGNORE_ID, np.int64))
    taught = pixels.get("train", total)
    used = np.flatnonzero(taught)
    if len(used) < 2 <= labels.num_classes:
        where = "train" if "train" in pixels else "the set"
        what = f"the class '{labels.names[used[0]]}'" if len(used) else "ignored pixels"
        problem = f"the masks of {where} hold nothing but {what}: there is nothing to learn"
        yield Finding(Kind.ONE_CLASS, where, problem, _MEND_ONE_CLASS)
        return
    for id_, name in enumerate(labels.names):
        if not total[id_]:
            problem = f"no mask has the class {id_}, '{name}'"
            yield Finding(Kind.CLASS_NEVER_SEEN, name, problem, _MEND_NEVER_SEEN)
        elif "val" in pixels and pixels["val"][id_] and not taught[id_]:
            problem = f"the class {id_}, '{name}', is in val and not in train"
            yield Finding(Kind.CLASS_MISSING_IN_TRAIN, name, problem, _MEND_MISSING)


def _empty_splits(splits: Mapping[str, SplitReport]) -> Iterator[Finding]:
    known = [split for split in SPLITS if split in splits]
    for split in ("train", "val"):
        if known and split not in known:
            problem = f"the set has {', '.join(known)} and no {split}"
            next_step = f"add {split} images, or let 'prepare --val_share 0.1' make the split"
            yield Finding(Kind.EMPTY_SPLIT, split, problem, next_step)


_MEND_TWICE = "take one of them out: it counts twice, and 'prepare' may part the two"
_MEND_IN_SPLITS = "take it out of one of them: scores on what was trained on mean nothing"
_MEND_NEVER_SEEN = "label it somewhere, or take it out of the label map: it cannot be learned"
_MEND_MISSING = "move images that have it to train: it cannot be learned"
_MEND_ONE_CLASS = "look at the masks: they may have been exported without their labels"
