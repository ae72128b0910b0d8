"""The picture sheet: which samples it shows, and what is to be seen of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from tiny_sets import png

from segkit.data.reader import Finding, Pair, Sample
from segkit.data.sample_sheet import draw_samples, random_samples
from segkit.errors import DataError
from segkit.labels import IGNORE_ID, Label, LabelMap

LABELS = LabelMap((Label("background", (0, 0, 0)), Label("road", (0, 0, 200))))
GREY = (90, 90, 90)
HATCH = (255, 0, 255)


@dataclass
class Set:
    """A Reader of samples in memory."""

    samples: list[Sample]
    labels: LabelMap = LABELS
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


def sample(stem: str, mask: np.ndarray, split: str | None = None) -> Sample:
    """A grey picture with this mask."""
    image = png(np.broadcast_to(np.uint8(GREY), (*mask.shape, 3)))
    return Sample(stem, split, lambda: Pair(image, ".png", mask))


def damaged() -> Pair:
    raise DataError("cut off")


def plain(class_id: int, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    return np.full(size, class_id, np.uint8)


def pixels_of(sheet: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns, (N, 2), of the pixels of a colour."""
    return np.argwhere((sheet == color).all(axis=-1))


def extent(sheet: np.ndarray, color: tuple[int, int, int]) -> list[int]:
    places = pixels_of(sheet, color)
    return (places.max(axis=0) - places.min(axis=0) + 1).tolist()


def test_a_seed_chooses_the_samples_and_another_one_others() -> None:
    reader = Set([sample(f"{number:02}", plain(0, (4, 4))) for number in range(40)])
    first = [x.stem for x in random_samples(reader, 8, seed=1)]
    assert len(set(first)) == 8
    assert [x.stem for x in random_samples(reader, 8, seed=1)] == first
    assert [x.stem for x in random_samples(reader, 8, seed=2)] != first


def test_samples_that_cannot_be_read_are_passed_over() -> None:
    whole = [sample(stem, plain(0, (4, 4))) for stem in "ab"]
    reader = Set([*whole, *(Sample(f"x{n}", None, damaged) for n in range(9))])
    assert sorted(x.stem for x in random_samples(reader, 5, seed=0)) == ["a", "b"]
    assert random_samples(Set(reader.samples[2:]), 5, seed=0) == []


def test_the_background_is_as_the_camera_saw_it() -> None:
    sheet = draw_samples([sample("a", plain(0))], LABELS)
    assert sheet.dtype == np.uint8
    assert len(pixels_of(sheet, GREY)) == 240 * 320


def test_a_class_is_tinted_in_its_colour() -> None:
    mask = plain(0)
    mask[:, :160] = 1
    sheet = draw_samples([sample("a", mask)], LABELS)
    tinted = (sheet[..., 2] > 90) & (sheet[..., 0] < 90) & (sheet[..., 1] < 90)
    tile = tinted[:256]  # the legend lies below
    assert tile.sum() == pytest.approx(240 * 160, rel=0.02)
    assert np.argwhere(tile)[:, 1].max() < 16 + 160 + 2


def test_what_is_ignored_is_hatched_so_that_it_is_seen_on_any_picture() -> None:
    mask = plain(0)
    mask[100:140] = IGNORE_ID
    sheet = draw_samples([sample("a", mask)], LABELS)
    hatched = pixels_of(sheet[: 16 + 240], HATCH)
    assert hatched[:, 0].min() >= 16 + 100 and hatched[:, 0].max() < 16 + 140
    assert len(hatched) == pytest.approx(40 * 320 / 3, rel=0.05)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((480, 640), [240, 320]),
        ((100, 400), [80, 320]),
        ((300, 30), [240, 24]),
        ((6, 8), [240, 320]),
    ],
)
def test_a_picture_fills_its_tile_and_keeps_its_shape(
    size: tuple[int, int], shown: list[int]
) -> None:
    assert extent(draw_samples([sample("a", plain(0, size))], LABELS), GREY) == shown


def test_a_picture_lies_in_the_middle_of_its_tile() -> None:
    places = pixels_of(draw_samples([sample("a", plain(0, (300, 30)))], LABELS), GREY)
    assert places.min(axis=0).tolist() == [16, 16 + (320 - 24) // 2]


def test_no_class_shows_that_the_mask_does_not_have() -> None:
    labels = LabelMap((*LABELS.labels, Label("car", (200, 0, 0))))
    mask = plain(0, (500, 700))
    mask[::7] = 2  # 1, the blue road, is what lies between the two
    tile = draw_samples([sample("a", mask)], labels)[: 16 + 240, 16 : 16 + 320]
    assert (tile[..., 0] > 110).any()
    assert not ((tile[..., 2] > 100) & (tile[..., 0] < 90)).any()


def test_a_row_has_four_pictures_and_every_one_a_caption() -> None:
    def height(count: int) -> int:
        samples = [sample(f"s{number}", plain(0, (4, 4))) for number in range(count)]
        return draw_samples(samples, LABELS).shape[0]

    assert height(1) == height(4) < height(5) == height(8)


def test_the_caption_says_split_and_name() -> None:
    def caption(stem: str, split: str | None) -> np.ndarray:
        sheet = draw_samples([sample(stem, plain(0), split)], LABELS)
        return sheet[16 + 240 : 16 + 240 + 22]

    assert (caption("a", None) != caption("b", None)).any()
    assert (caption("a", "train") != caption("a", "val")).any()
    long = caption("drive/" * 40 + "a", "train")
    assert (long[:, 16 + 320 :] == 255).all(), "it runs into its neighbour"
    assert (long != caption("drive/" * 40 + "b", "train")).any(), "its end tells it apart"


def test_the_legend_names_every_class_on_as_many_lines_as_it_takes() -> None:
    def height(names: list[str]) -> int:
        return draw_samples([sample("a", plain(0))], LabelMap.from_names(names)).shape[0]

    few, many = ["road"], [f"class number {number}" for number in range(60)]
    assert height(many) > height(few)
    labels = LabelMap((Label("background", (0, 0, 0)), Label("sky", (1, 200, 3))))
    assert len(pixels_of(draw_samples([sample("a", plain(0))], labels), (1, 200, 3))) > 100
