from __future__ import annotations

import numpy as np

from segkit.video.resize import resize_image, resize_mask


def test_an_image_of_the_right_size_is_passed_on() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    assert resize_image(image, (4, 6)) is image


def test_smaller_images_are_averages() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[::2, ::2] = 200
    np.testing.assert_array_equal(resize_image(image, (2, 2)), np.full((2, 2, 3), 50))


def test_sizes_are_height_and_width() -> None:
    assert resize_image(np.zeros((4, 4, 3), np.uint8), (8, 2)).shape == (8, 2, 3)
    assert resize_mask(np.zeros((4, 4), np.uint8), (8, 2)).shape == (8, 2)


def test_masks_keep_their_ids_and_their_places() -> None:
    mask = np.array([[0, 255], [7, 3]], np.uint8)
    larger = resize_mask(mask, (6, 4))
    np.testing.assert_array_equal(larger, np.repeat(np.repeat(mask, 3, 0), 2, 1))
    np.testing.assert_array_equal(resize_mask(larger, (2, 2)), mask)
