"""The check of a whole set, on samples made here: what is counted, and what two samples share."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
from PIL import Image
from tiny_sets import ids, jpeg, png

from segkit.data.checks import check
from segkit.data.reader import Finding, Kind, Pair, Sample, SampleError
from segkit.errors import DataError
from segkit.labels import IGNORE_ID, LabelMap


@dataclass
class Set:
    """A Reader of samples in memory."""

    samples: list[Sample]
    labels: LabelMap = field(
        default_factory=lambda: LabelMap.from_names(["background", "car", "road"])
    )
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


def sample(
    stem: str,
    split: str | None = None,
    *,
    image: bytes | None = None,
    mask: np.ndarray | None = None,
    error: Exception | None = None,
) -> Sample:
    """A picture of its own, named by its stem, with a mask of all classes."""
    seed = sum(map(ord, stem))
    pair = Pair(jpeg(seed) if image is None else image, ".jpg", ids(seed) if mask is None else mask)
    return Sample(stem, split, partial(_load, pair, error))


def _load(pair: Pair, error: Exception | None) -> Pair:
    if error is not None:
        raise error
    return pair


def found(*samples: Sample, known: tuple[Finding, ...] = ()) -> list[tuple[Kind, str]]:
    report = check(Set(list(samples), findings=known))
    return [(finding.kind, finding.file) for finding in report.findings]


def flat(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


# === What is counted ===


def test_pixels_and_images_are_counted_for_each_split() -> None:
    report = check(
        Set(
            [
                sample("a", "train", mask=flat(0, 1, 1, 255)),
                sample("b", "train", mask=flat(0, 0, 0, 0)),
                sample("c", "val", mask=flat(1, 2, 0, 0)),
            ]
        )
    )
    train, val = report.splits["train"], report.splits["val"]
    assert (train.images, train.loaded, val.images) == (2, 2, 1)
    assert train.pixels[[0, 1, 2, IGNORE_ID]].tolist() == [5, 2, 0, 1]
    assert train.images_with[[0, 1, 2, IGNORE_ID]].tolist() == [2, 1, 0, 1]
    assert train.images_of[:3].tolist() == [1, 0, 0]
    assert val.pixels[:3].tolist() == [2, 1, 1]
    assert report.sizes == {(1, 4): 3}


def test_what_cannot_be_read_is_an_image_and_counts_no_pixels() -> None:
    finding = Finding(Kind.DAMAGED_MASK, "b.png", "it is cut off", "copy it again")
    report = check(Set([sample("a", mask=flat(1, 0)), sample("b", error=SampleError(finding))]))
    part = report.splits["all"]
    assert (part.images, part.loaded) == (2, 1)
    assert part.images_with[1] == 1
    assert "100" in report.tables().splitlines()[4]  # of those that could be read
    assert finding in report.errors


def test_shares_are_of_what_is_labelled_and_the_ignored_one_of_everything() -> None:
    table = check(Set([sample("a", mask=flat(0, 0, 0, 1, 255, 255, 255, 255))])).tables()
    shares = {line.split()[1]: line.split()[2:] for line in table.splitlines()[3:7]}
    assert shares == {
        "background": ["75", "100"],
        "car": ["25", "100"],
        "road": ["0", "0"],
        "ignored": ["50", "100"],
    }


def test_an_error_that_names_no_file_is_a_finding_of_its_sample() -> None:
    report = check(Set([sample("a"), sample("b", error=DataError("records end early"))]))
    (finding,) = report.errors
    assert (finding.kind, finding.file) == (Kind.DAMAGED_IMAGE, "b")
    assert "b: records end early" in report.faults()


@pytest.mark.parametrize(
    ("own", "counted"),
    [
        ((None, None), {"all": 2}),
        (("train", "val", None), {"train": 2, "val": 1}),
        (("val", None), {"val": 1, "no split": 1}),
        (("test", "val", "train"), {"train": 1, "val": 1, "test": 1}),
    ],
)
def test_an_image_without_a_split_counts_where_prepare_puts_it(
    own: tuple[str | None, ...], counted: dict[str, int]
) -> None:
    report = check(Set([sample(f"s{number}", split) for number, split in enumerate(own)]))
    assert {name: part.images for name, part in report.splits.items()} == counted
    assert list(report.splits) == list(counted)


def test_every_sample_is_told_of_in_turn() -> None:
    counts: list[int] = []
    check(Set([sample(stem) for stem in "abcdefghijkl"]), workers=3, on_sample=counts.append)
    assert counts == list(range(1, 13))


def test_sizes_are_shown_by_how_many_have_them_with_the_extremes() -> None:
    samples = [sample(f"s{n}", mask=np.zeros((1, n), np.uint8)) for n in (3, 3, 4, 5, 6, 7, 8, 90)]
    lines = check(Set(samples)).tables().splitlines()
    assert "sizes, height x width: 1x3 (2), 1x4 (1), 1x5 (1), 1x6 (1), 1x7 (1) and 2 more" in (
        "\n".join(lines)
    )
    assert "from 1x3 to 1x90" in "\n".join(lines)


# === What two samples share ===


def test_one_picture_in_two_splits_is_one_error_for_each_further_place() -> None:
    one = jpeg(1)
    assert found(
        sample("a", "train", image=one),
        sample("b", "train", image=one),
        sample("c", "val", image=one),
        sample("d", "test", image=one),
        sample("e", "val", image=one),
        sample("f", "train"),
    ) == [
        (Kind.SAME_PICTURE_IN_SPLITS, "c"),
        (Kind.SAME_PICTURE_IN_SPLITS, "d"),
        (Kind.SAME_PICTURE, "b"),
        (Kind.SAME_PICTURE, "e"),
    ]


def test_what_has_no_split_is_no_other_split() -> None:
    one = jpeg(1)
    assert found(sample("a", "train", image=one), sample("b", image=one), sample("c", "val")) == [
        (Kind.SAME_PICTURE, "b")
    ]
    assert found(sample("a", "val", image=one), sample("b", image=one)) == [
        (Kind.SAME_PICTURE, "b"),
        (Kind.EMPTY_SPLIT, "train"),
    ]


def test_pictures_are_the_same_by_their_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    other = pixels.copy()
    other[5, 7, 2] ^= 1
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3  # the tag that says upside down
    Image.fromarray(pixels).save(turned, format="PNG", exif=exif)
    tall = png(pixels.reshape(8, 6, 3))
    assert found(
        sample("a", image=png(pixels)),
        sample("b", image=turned.getvalue()),
        sample("c", image=png(other)),
        sample("d", image=tall),
    ) == [(Kind.SAME_PICTURE, "b")]


def test_copies_of_one_source_in_two_splits_are_found_once() -> None:
    samples = (sample("a", "val"), sample("a.aug1", "train"), sample("b", "train"))
    assert found(*samples) == [(Kind.LEAK, "a")]
    known = Finding(Kind.LEAK, "a.aug1", "the reader's own words", "")
    assert found(*samples, known=(known,)) == [(Kind.LEAK, "a.aug1")]
    assert found(sample("a"), sample("a.aug1")) == []


# === Classes ===


def test_a_class_that_only_val_has_is_an_error() -> None:
    assert found(sample("a", "train", mask=flat(0, 1)), sample("b", "val", mask=flat(0, 2))) == [
        (Kind.CLASS_MISSING_IN_TRAIN, "road")
    ]


def test_a_class_that_no_mask_has_is_a_warning() -> None:
    report = check(Set([sample("a", mask=flat(0, 1)), sample("b", mask=flat(1, 0, 255))]))
    assert [finding.file for finding in report.warnings] == ["road"]
    assert report.verdict == "no errors, 1 warning"


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ((flat(0, 0), flat(0, 255)), "the class 'background'"),
        ((flat(2, 2), flat(2, 2)), "the class 'road'"),
        ((flat(255, 255), flat(255, 255)), "ignored pixels"),
    ],
)
def test_masks_that_teach_nothing_are_an_error(masks: tuple[np.ndarray, ...], words: str) -> None:
    samples = [sample(f"s{number}", mask=mask) for number, mask in enumerate(masks)]
    (finding,) = check(Set(samples)).errors
    assert finding.kind is Kind.ONE_CLASS
    assert f"the masks of the set hold nothing but {words}" in finding.problem


def test_a_label_map_of_one_class_needs_no_second_one() -> None:
    only = Set([sample("a", mask=flat(0, 0))], LabelMap.from_names(["lesion"]))
    assert check(only).findings == ()


def test_errors_come_before_warnings() -> None:
    one = jpeg(1)
    assert found(
        sample("a", "train", image=one, mask=flat(0, 1)),
        sample("b", "train", image=one, mask=flat(0, 1)),
        sample("c", "val", mask=flat(0, 2)),
    ) == [(Kind.CLASS_MISSING_IN_TRAIN, "road"), (Kind.SAME_PICTURE, "b")]


def test_a_set_without_samples_has_an_empty_report() -> None:
    report = check(Set([]))
    assert report.tables() == "images: none"
    assert report.verdict == "no errors, no warnings"
