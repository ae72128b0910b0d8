from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from segkit.data.augmentation import (
    Augmented,
    Background,
    Blur,
    Brightness,
    Color,
    Crop,
    Effect,
    Equalize,
    Image,
    Mask,
    Objects,
    Rotate,
    Shift,
    alter,
    generator,
)
from segkit.errors import DataError
from segkit.labels import IGNORE_ID

MOVING = [Shift(0.4), Rotate(45.0), Crop(0.5)]
COLORING = [Blur(), Brightness(), Equalize(), Color()]
SIZE = (60, 90)


def example() -> Augmented:
    """Blocks of the ids 0, 1, 3; the image's red is 80 times the id, an object is where id 3 is."""
    mask = np.zeros(SIZE, np.uint8)
    mask[10:40, 10:50] = 1
    mask[20:55, 40:80] = 3
    image = np.stack([80 * mask, np.full(SIZE, 90, np.uint8), np.full(SIZE, 60, np.uint8)], -1)
    return image, mask, (mask == 3).astype(np.uint16) * 700


def rng(number: int = 0) -> np.random.Generator:
    return generator(0, "a", number)


@pytest.mark.parametrize("effect", MOVING + COLORING, ids=repr)
def test_no_effect_touches_what_it_was_given_or_makes_up_an_id(effect: Effect) -> None:
    given = example()
    for number in range(10):
        image, mask, objects = effect(*given, rng(number))
        assert image.dtype == mask.dtype == np.uint8
        assert objects.dtype == np.uint16
        assert image.shape == (*mask.shape, 3)
        assert objects.shape == mask.shape
        assert set(np.unique(mask)) <= {0, 1, 3, IGNORE_ID}
        assert set(np.unique(objects)) <= {0, 700}
    for now, before in zip(given, example(), strict=True):
        np.testing.assert_array_equal(now, before)


@pytest.mark.parametrize("effect", [Shift(0.4), Crop(0.5)], ids=repr)
def test_image_mask_and_objects_move_together(effect: Effect) -> None:
    for number in range(10):
        image, mask, objects = effect(*example(), rng(number))
        known = mask != IGNORE_ID
        np.testing.assert_array_equal(image[known, 0], 80 * mask[known])
        np.testing.assert_array_equal(objects > 0, mask == 3)


def test_a_rotation_turns_image_mask_and_objects_by_one_angle() -> None:
    image, mask, objects = Rotate(45.0)(*example(), rng())
    assert (mask == IGNORE_ID).any()
    np.testing.assert_array_equal(objects > 0, mask == 3)
    # Between two blocks the image has a seam of mixed colours, less than two pixels wide.
    agrees = image[..., 0] == 80 * mask.astype(int)
    assert agrees[mask != IGNORE_ID].mean() > 0.9


def test_what_comes_in_is_ignored_and_shows_the_mirrored_image() -> None:
    directions = set()
    for number in range(12):
        image, mask, objects = Shift(0.4)(*example(), rng(number))
        new = mask == IGNORE_ID
        assert not objects[new].any()
        assert (image[new, 1] == 90).all(), "mirrored, not black"
        directions.add((bool(new[0, SIZE[1] // 2]), bool(new[SIZE[0] // 2, 0])))
    assert len(directions) == 4, "up and down, left and right"


def test_a_rotation_keeps_the_size_and_a_crop_the_aspect_ratio() -> None:
    assert Rotate(45.0)(*example(), rng())[1].shape == SIZE
    heights = set()
    for number in range(20):
        height, width = Crop(0.5, 0.9)(*example(), rng(number))[1].shape
        assert 0.5 * SIZE[0] <= height <= 0.9 * SIZE[0]
        assert width / height == pytest.approx(SIZE[1] / SIZE[0], rel=0.03)
        heights.add(height)
    assert len(heights) > 5


def test_a_rotation_turns_about_the_centre() -> None:
    image, mask, objects = np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.uint8), example()[2]
    mask[SIZE[0] // 2 - 6 : SIZE[0] // 2 + 6, SIZE[1] // 2 - 6 : SIZE[1] // 2 + 6] = 1
    for number in range(10):
        turned = Rotate(180.0)(image, mask, objects, rng(number))[1]
        rows, columns = np.nonzero(turned == 1)
        assert (rows.mean(), columns.mean()) == pytest.approx((29.5, 44.5), abs=0.5)


def test_a_crop_may_lie_anywhere() -> None:
    image, mask, objects = example()
    image[..., 1], image[..., 2] = np.arange(SIZE[0])[:, None], np.arange(SIZE[1])
    corners = [Crop(0.5, 0.5)(image, mask, objects, rng(n))[0][0, 0, 1:] for n in range(60)]
    assert np.ptp(corners, axis=0) == pytest.approx((30, 45), abs=6)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 7)])
@pytest.mark.parametrize("effect", MOVING + COLORING, ids=repr)
def test_images_of_any_size_and_aspect_ratio_will_do(effect: Effect, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 90, np.uint8)
    mask, objects = np.ones(size, np.uint8), np.ones(size, np.uint16)
    for number in range(5):
        assert effect(image, mask, objects, rng(number))[0].shape[2] == 3


@pytest.mark.parametrize("effect", COLORING, ids=repr)
def test_an_effect_on_colours_changes_the_image_alone(effect: Effect) -> None:
    before = example()
    image, mask, objects = effect(*before, rng())
    assert (image != before[0]).any()
    np.testing.assert_array_equal(mask, before[1])
    np.testing.assert_array_equal(objects, before[2])


def test_brightness_goes_both_ways_and_stays_within_its_strength() -> None:
    changes = []
    for number in range(20):
        image = Brightness(70.0)(*example(), rng(number))[0]
        changes.append(int(image[0, 0, 1]) - 90)
    assert min(changes) < -14 <= 14 < max(changes)
    assert all(14 <= abs(change) <= 70 for change in changes)


def test_equalizing_stretches_the_luminance_and_keeps_grey_grey() -> None:
    ramp = np.tile(np.arange(100, 130, dtype=np.uint8), (30, 1))
    image, _, _ = Equalize()(np.dstack([ramp] * 3), ramp, ramp.astype(np.uint16), rng())
    assert (image.min(), image.max()) == (0, 255)
    assert np.ptp(image.astype(int), axis=-1).max() <= 1


def test_every_object_gets_a_colour_of_its_own_and_nothing_else_changes() -> None:
    before = np.full((*SIZE, 3), (200, 40, 40), np.uint8)
    objects = np.zeros(SIZE, np.uint16)
    objects[:20], objects[40:, :30] = 1, 300
    after, _, _ = Color()(before, np.zeros(SIZE, np.uint8), objects, rng())
    np.testing.assert_array_equal(after[objects == 0], before[objects == 0])
    # OpenCV's colour conversion rounds differently at the end of a row: one grey level.
    assert all(np.ptp(after[objects == n], axis=0).max() <= 1 for n in (1, 300))
    colors = [after[objects == n].mean(axis=0) for n in (1, 300)] + [np.array([200, 40, 40])]
    assert all(abs(colors[i] - colors[i - 1]).max() > 10 for i in range(3))


def stripes(path: Path, size: tuple[int, int]) -> Path:
    """A picture whose green tells the column."""
    image = np.zeros((*size, 3), np.uint8)
    image[..., 1] = np.arange(size[1])
    PillowImage.fromarray(image).save(path)
    return path


def test_the_background_is_a_part_of_the_picture_and_the_rest_stays(tmp_path: Path) -> None:
    picture = stripes(tmp_path / "p.png", (SIZE[0], 200))
    before, mask, objects = example()
    starts = set()
    for number in range(5):
        image, same, _ = Background((picture,))(before, mask, objects, rng(number))
        np.testing.assert_array_equal(same, mask)
        np.testing.assert_array_equal(image[25:35, 45:75], before[25:35, 45:75])
        columns = image[2, 2:-2, 1].astype(int)
        # As high as the image, so it is not scaled: neighbours stay neighbours.
        assert (np.diff(columns) == 1).all()
        starts.add(columns[0])
    assert len(starts) > 2


def test_a_picture_covers_the_image_without_being_squeezed(tmp_path: Path) -> None:
    picture = stripes(tmp_path / "p.png", (SIZE[0] // 2, 200))
    image, _, _ = Background((picture,))(*example(), rng())
    assert image[2, 2:-2, 1].astype(int)[[0, -1]] @ [-1, 1] == pytest.approx(SIZE[1] / 2, abs=3)


def test_without_background_nothing_is_replaced(tmp_path: Path) -> None:
    picture = stripes(tmp_path / "p.png", SIZE)
    image, _, _ = Background((picture,), class_id=7)(*example(), rng())
    np.testing.assert_array_equal(image, example()[0])


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_damaged_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.png").write_bytes(content)
    with pytest.raises(DataError, match="p.png' cannot be decoded"):
        Background((tmp_path / "p.png",))(*example(), rng())


def test_a_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone.png' cannot be read"):
        Background((tmp_path / "gone.png",))(*example(), rng())


class Recording:
    """Adds 1 to the image, or nothing, and says that it was called."""

    def __init__(self, log: list[int], number: int, change: int = 1) -> None:
        self.log, self.number, self.change = log, number, change

    def __call__(
        self, image: Image, mask: Mask, objects: Objects, _: np.random.Generator
    ) -> Augmented:
        self.log.append(self.number)
        return image + np.uint8(self.change), mask, objects


@pytest.mark.parametrize(
    ("probability", "count"), [(0.0, 1), (1.0, 3)], ids=["one at least", "all"]
)
def test_a_copy_has_its_effects_by_chance_and_never_none(probability: float, count: int) -> None:
    firsts = set()
    for number in range(30):
        log: list[int] = []
        effects = [Recording(log, index) for index in range(3)]
        copy = alter(example(), effects, probability=probability, rng=rng(number))
        assert copy is not None
        assert len(log) == count
        assert log == sorted(log), "in their order"
        firsts.add(log[0])
    assert firsts == ({0, 1, 2} if count == 1 else {0})


def test_where_an_effect_alters_nothing_another_one_is_tried() -> None:
    for number in range(10):
        log: list[int] = []
        effects = [Recording(log, 0, change=0), Recording(log, 1)]
        copy = alter(example(), effects, probability=0.5, rng=rng(number))
        assert copy is not None
        assert 1 in log


def test_where_nothing_can_be_altered_there_is_no_copy() -> None:
    effects = [Recording([], 0, change=0), Recording([], 1, change=0)]
    assert alter(example(), effects, probability=0.5, rng=rng()) is None


def test_a_copy_draws_by_seed_name_and_number_alone() -> None:
    assert generator(1, "a", 2).uniform() == generator(1, "a", 2).uniform()
    keys = [(1, "a", 2), (2, "a", 2), (1, "b", 2), (1, "a", 1)]
    assert len({generator(*key).uniform() for key in keys}) == 4


def test_effects_are_frozen_and_comparable() -> None:
    assert Shift(0.1) == Shift(0.1) != Shift(0.2)
    with pytest.raises(FrozenInstanceError):
        Shift().most = 1.0  # type: ignore[misc]
