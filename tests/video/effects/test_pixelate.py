"""Pixelate: what is hidden cannot be read from the picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from segkit.video.effects.pixelate import Pixelate

PERSON = 5
SIZE = (240, 320)
BLOCK = 12  # 1/20 of the height


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def person(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[top : top + height, left : left + width] = PERSON
    return mask


def blocks(image: np.ndarray) -> np.ndarray:
    """(rows, columns, pixels of a block, 3)."""
    rows, columns = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    whole = image[: rows * BLOCK, : columns * BLOCK]
    shaped = whole.reshape(rows, BLOCK, columns, BLOCK, 3).swapaxes(1, 2)
    return shaped.reshape(rows, columns, BLOCK * BLOCK, 3)


def test_one_color_a_block_is_all_that_is_left(noise: np.ndarray) -> None:
    mask = person(70, 100, 50, 40)
    picture = Pixelate((PERSON,))(noise, mask)
    flat = (blocks(picture) == blocks(picture)[:, :, :1]).all(axis=(2, 3))
    touched = blocks(np.repeat(mask[..., None], 3, 2)).any(axis=(2, 3))
    assert touched.any()
    assert flat[touched].all()


def test_the_rest_stays_as_it_is(noise: np.ndarray) -> None:
    mask = person(70, 100, 50, 40)
    picture = Pixelate((PERSON,))(noise, mask)
    far = cv2.dilate(mask, np.ones((2 * BLOCK + 5, 2 * BLOCK + 5), np.uint8)) == 0
    np.testing.assert_array_equal(picture[far], noise[far])


def test_images_with_the_same_means_give_the_same_picture(noise: np.ndarray) -> None:
    """Who knows the picture cannot tell what was there: a face, or its pixels in any order."""
    mask = person(48, 96, 60, 48)
    shuffled = noise.copy()
    rng = np.random.default_rng(1)
    for top in range(48, 108, BLOCK):
        for left in range(96, 144, BLOCK):
            block = shuffled[top : top + BLOCK, left : left + BLOCK].reshape(-1, 3)
            mixed = rng.permutation(block).reshape(BLOCK, BLOCK, 3)
            shuffled[top : top + BLOCK, left : left + BLOCK] = mixed
    assert (shuffled != noise).any()
    effect = Pixelate((PERSON,))
    np.testing.assert_array_equal(effect(shuffled, mask), effect(noise, mask))


@pytest.mark.parametrize("size", [(240, 320), (1080, 1920), (241, 323), (97, 50)])
@pytest.mark.parametrize("corner", ["top left", "bottom right"])
def test_a_single_pixel_is_covered_everywhere(size: tuple[int, int], corner: str) -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    mask = np.zeros(size, np.uint8)
    y, x = (0, 0) if corner == "top left" else (size[0] - 1, size[1] - 1)
    mask[y, x] = PERSON
    picture = Pixelate((PERSON,))(image, mask)
    changed = (picture != image).any(-1)
    assert changed[y, x]
    assert changed.sum() > 4


def test_what_is_close_to_the_mask_is_covered_too(noise: np.ndarray) -> None:
    on_the_seam = person(60, 96, 24, 24)  # exactly two by two blocks
    picture = Pixelate((PERSON,), margin=1 / 100)(noise, on_the_seam)
    changed = (picture != noise).any(-1)
    assert changed[48:96, 84:132].mean() > 0.99, "the blocks around them, as a mask may be off"


def test_blocks_follow_the_size_of_the_image() -> None:
    for height, block in ((480, 24), (1080, 54)):
        image = np.random.default_rng(0).integers(0, 256, (height, height, 3), np.uint8)
        picture = Pixelate((PERSON,))(image, np.full((height, height), PERSON, np.uint8))
        assert (np.diff(picture[:block].astype(int), axis=0) == 0).all()
        assert (picture[block] != picture[block - 1]).any()


def test_nobody_to_hide_leaves_the_image(noise: np.ndarray) -> None:
    nobody = np.full(SIZE, 3, np.uint8)
    nobody[:50] = 255
    np.testing.assert_array_equal(Pixelate((PERSON,))(noise, nobody), noise)
