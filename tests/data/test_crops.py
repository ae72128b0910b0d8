from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tiny_examples import example

from segkit.data.crops import ClassBalancedCrop, RandomScaleCrop
from segkit.data.transforms import Resize
from segkit.labels import IGNORE_ID

SIZE = (24, 40)


def test_below_scale_1_the_rest_is_ignored_and_filled() -> None:
    given = example(size=(48, 80))
    transform = RandomScaleCrop(SIZE, SIZE, min_scale=0.5, max_scale=0.5, fill=(1.0, 2.0, 3.0))
    places = set()
    for seed in range(12):
        result = transform(given | {"seed": tf.constant([0, seed], tf.int64)})
        padding = result["mask"].numpy() == IGNORE_ID
        rows, columns = np.where(~padding)
        places.add((rows.min(), columns.min()))
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (12, 20)
        assert np.allclose(result["image"].numpy()[padding], [1, 2, 3])
        inner = result["image"].numpy()[~padding].reshape(12, 20, 3)
        assert np.allclose(inner, Resize((12, 20))(given)["image"], atol=1e-3)
    assert len(places) > 4


def test_at_scale_1_nothing_is_cut_or_padded() -> None:
    given = example()
    result = RandomScaleCrop(SIZE, SIZE, min_scale=1.0, max_scale=1.0)(given)
    assert np.allclose(result["image"], Resize(SIZE)(given)["image"], atol=1e-3)
    assert np.array_equal(result["mask"], Resize(SIZE)(given)["mask"])


def test_above_scale_1_a_part_of_the_full_resolution_fills_the_output() -> None:
    given = example(size=(48, 80))
    transform = RandomScaleCrop(SIZE, SIZE, min_scale=2.0, max_scale=2.0)
    image, mask = given["image"].numpy(), given["mask"].numpy()
    for seed in range(6):
        result = transform(given | {"seed": tf.constant([0, seed], tf.int64)})
        windows = np.lib.stride_tricks.sliding_window_view(mask, SIZE)
        top, left = np.argwhere((windows == result["mask"].numpy()).all(axis=(2, 3)))[0]
        part = image[top : top + SIZE[0], left : left + SIZE[1]]
        assert np.allclose(result["image"], part, atol=1e-2)


def test_a_crop_is_a_part_of_the_scaled_image_at_its_own_scale() -> None:
    """Of an image of 48x80 at scale 1 as it is, a crop of 24x24 is 24x24 of its pixels."""
    given = example(size=(48, 80))
    transform = RandomScaleCrop((48, 80), (24, 24), min_scale=1.0, max_scale=1.0)
    mask = given["mask"].numpy()
    windows = np.lib.stride_tricks.sliding_window_view(mask, (24, 24))
    places = set()
    for seed in range(8):
        result = transform(given | {"seed": tf.constant([0, seed], tf.int64)})
        found = np.argwhere((windows == result["mask"].numpy()).all(axis=(2, 3)))
        places.add(tuple(found[0]))
        top, left = found[0]
        part = given["image"].numpy()[top : top + 24, left : left + 24]
        assert np.allclose(result["image"], part, atol=1e-2)
    assert len(places) > 4


def test_a_crop_higher_than_the_scaled_image_and_narrower_is_padded_in_height_alone() -> None:
    given = example(size=(48, 80))
    transform = RandomScaleCrop((48, 80), (60, 30), min_scale=0.5, max_scale=0.5)
    padding = transform(given)["mask"].numpy() == IGNORE_ID
    rows = ~padding.all(axis=1)
    assert rows.sum() == 24
    assert not padding[rows].any()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (200, 3)])
def test_odd_shapes_survive(size: tuple[int, int]) -> None:
    for seed in range(5):
        result = RandomScaleCrop(SIZE, SIZE, min_scale=0.01, max_scale=9.0)(example(seed, size))
        assert result["mask"].shape == SIZE


def painted(mask: np.ndarray, seed: int) -> dict:
    return {
        "image": tf.zeros((*mask.shape, 3)),
        "mask": tf.constant(mask),
        "seed": tf.constant([2, seed], tf.int64),
    }


def shares(mask: np.ndarray) -> np.ndarray:
    labelled = mask[mask != IGNORE_ID]
    return np.bincount(labelled, minlength=3) / labelled.size


def mostly_one_class() -> np.ndarray:
    """Class 0 all over, but for a strip of class 1 on the left, and ignored in the middle."""
    mask = np.zeros((96, 160), np.uint8)
    mask[:, :30] = 1
    mask[40:50, 60:90] = IGNORE_ID
    return mask


def test_no_class_has_more_than_its_largest_share_of_a_part() -> None:
    mask = mostly_one_class()
    transform = RandomScaleCrop((24, 40), (24, 40), 4.0, 4.0, max_class_share=0.75, tries=60)
    free = RandomScaleCrop((24, 40), (24, 40), 4.0, 4.0)
    kept = [shares(transform(painted(mask, seed))["mask"].numpy()).max() for seed in range(25)]
    assert max(kept) <= 0.78  # counted on a grid of the part
    anywhere = [shares(free(painted(mask, seed))["mask"].numpy()).max() for seed in range(25)]
    assert np.mean(np.array(anywhere) == 1.0) > 0.5


def test_a_place_that_is_good_at_once_is_kept() -> None:
    free, capped = (
        RandomScaleCrop(SIZE, SIZE, 2.0, 2.0, max_class_share=share) for share in (1.0, 0.99)
    )
    for seed in range(5):
        assert np.array_equal(free(example(seed))["mask"], capped(example(seed))["mask"])


@pytest.mark.parametrize("fill", [4, IGNORE_ID])
def test_an_image_of_one_class_still_gives_a_crop(fill: int) -> None:
    mask = np.full((48, 80), fill, np.uint8)
    transform = RandomScaleCrop(SIZE, SIZE, 0.5, 2.0, max_class_share=0.5)
    for seed in range(4):
        assert set(np.unique(transform(painted(mask, seed))["mask"])) <= {fill, IGNORE_ID}


def rare(row: int, column: int) -> np.ndarray:
    """Classes 0 and 1, and of class 2 five pixels square."""
    mask = np.zeros((96, 160), np.uint8)
    mask[:, :80] = 1
    mask[row : row + 5, column : column + 5] = 2
    return mask


@pytest.mark.parametrize("place", [(0, 0), (40, 100), (91, 155)])
def test_a_balanced_crop_contains_the_class_that_was_drawn(place: tuple[int, int]) -> None:
    mask = rare(*place)
    transform = ClassBalancedCrop(
        SIZE, SIZE, 4.0, 4.0, probability=1.0, class_shares=(0.0, 0.0, 0.1)
    )
    for seed in range(10):
        result = transform(painted(mask, seed))["mask"].numpy()
        assert result.shape == SIZE
        assert (result == 2).any()


def drawn_classes(mask: np.ndarray, count: int, **parameters: Any) -> np.ndarray:
    """How often each class id was drawn, as a share: the part is the pixel itself."""
    transform = ClassBalancedCrop((1, 1), (1, 1), 200.0, 200.0, probability=1.0, **parameters)
    masks = [int(transform(painted(mask, seed))["mask"][0, 0]) for seed in range(count)]
    return np.bincount(masks, minlength=3) / count


def test_all_classes_of_an_image_are_drawn_equally_often() -> None:
    assert (abs(drawn_classes(rare(40, 130), 90) - 1 / 3) < 0.15).all()


def test_a_class_is_drawn_the_more_often_the_rarer_it_is_in_the_set() -> None:
    assert drawn_classes(rare(40, 130), 40, class_shares=(60, 38, 2))[2] > 0.8


def test_every_pixel_of_a_class_is_drawn() -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4) // 12
    image = tf.reshape(tf.range(12.0), (3, 4, 1)) * tf.ones(3)
    transform = ClassBalancedCrop((1, 1), (1, 1), 4.0, 4.0, probability=1.0)
    values = {
        float(transform(painted(mask, seed) | {"image": image})["image"][0, 0, 0])
        for seed in range(150)
    }
    assert values == {float(value) for value in range(12)}


@pytest.mark.parametrize("fill", [7, IGNORE_ID])
def test_an_image_without_a_class_to_draw_is_cut_anywhere(fill: int) -> None:
    mask = np.full((48, 80), fill, np.uint8)
    transform = ClassBalancedCrop(SIZE, SIZE, 2.0, 2.0, probability=1.0, class_shares=(0.5, 0.5))
    image = tf.random.stateless_uniform((48, 80, 3), [0, 0], 0, 255)
    anywhere = RandomScaleCrop(SIZE, SIZE, 2.0, 2.0)
    for seed in range(4):
        given = painted(mask, seed) | {"image": image}
        assert np.array_equal(transform(given)["image"], anywhere(given)["image"])


def test_more_shares_than_class_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="class_shares has 256 values: expected 0 to 255"):
        ClassBalancedCrop(SIZE, SIZE, class_shares=(0.1,) * 256)
