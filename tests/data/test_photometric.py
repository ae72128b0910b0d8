from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tiny_examples import example

from segkit.data.photometric import Cutout, GaussianBlur, JpegQuality, PhotometricDistortion
from segkit.labels import IGNORE_ID


def distorted(**strength: float) -> tuple[np.ndarray, list[np.ndarray]]:
    none = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    transform = PhotometricDistortion(**(none | strength), probability=1.0)
    given = example()
    given["image"] = 100 + given["image"] * 0.1  # far from 0 and 255: nothing is clipped
    seeds = [tf.constant([5, seed], tf.int64) for seed in range(10)]
    return given["image"].numpy(), [
        transform(given | {"seed": seed})["image"].numpy() for seed in seeds
    ]


def test_no_strength_changes_nothing() -> None:
    image, results = distorted()
    assert all(np.allclose(result, image, atol=1e-2) for result in results)


def test_brightness_moves_all_pixels_by_one_visible_amount() -> None:
    image, results = distorted(brightness=32.0)
    moves = [result - image for result in results]
    assert all(np.ptp(move) < 0.01 for move in moves)
    assert 5 < max(abs(move.mean()) for move in moves) <= 32


def test_contrast_keeps_the_mean_luma() -> None:
    image, results = distorted(contrast=0.5)
    luma = np.array([0.299, 0.587, 0.114])
    assert all(np.isclose((x @ luma).mean(), (image @ luma).mean(), atol=0.05) for x in results)
    factors = [result.std() / image.std() for result in results]
    assert min(factors) < 0.9 < 1.1 < max(factors)


@pytest.mark.parametrize("which", [{"saturation": 0.5}, {"hue": 0.1}])
def test_saturation_and_hue_keep_luma_and_grey(which: dict[str, float]) -> None:
    image, results = distorted(**which)
    luma = np.array([0.299, 0.587, 0.114])
    assert all(np.allclose(result @ luma, image @ luma, atol=0.2) for result in results)
    assert max(np.abs(result - image).max() for result in results) > 1
    grey = {"image": tf.fill((2, 2, 3), 90.0), "mask": tf.zeros((2, 2), tf.uint8)}
    strong = PhotometricDistortion(0.0, 0.0, 0.9, 0.5, probability=1.0)
    result = strong(grey | {"seed": tf.constant([1, 1], tf.int64)})
    assert np.allclose(result["image"], 90, atol=0.1)


def test_a_blur_is_the_gaussian_of_its_strength() -> None:
    point = np.zeros((41, 61, 3), np.float32)
    point[20, 30] = 10_000.0
    sigmas = []
    for seed in range(10):
        given = example(seed) | {"image": tf.constant(point)}
        image = GaussianBlur(max_sigma=3.0, probability=1.0)(given)["image"].numpy()
        assert np.isclose(image.sum(), point.sum(), rtol=1e-4)
        variances = [
            (image[..., 0].sum(axis=1 - axis) @ (np.arange(size) - middle) ** 2) / 10_000
            for axis, size, middle in ((0, 41, 20), (1, 61, 30))
        ]
        assert np.isclose(*variances, rtol=1e-3, atol=1e-3)
        sigmas.append(variances[0] ** 0.5)
    assert min(sigmas) < 1.2 < 1.8 < max(sigmas) <= 3.0


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (30, 50)])
def test_a_blur_keeps_a_flat_image_up_to_its_border(size: tuple[int, int]) -> None:
    for seed in range(4):
        given = example(seed, size) | {"image": tf.fill((*size, 3), 77.0)}
        image = GaussianBlur(max_sigma=4.0, probability=1.0)(given)["image"]
        assert np.allclose(image, 77.0, atol=1e-2)


def packed(quality: int) -> float:
    """How far JPEG of a quality takes the image away, on average."""
    given = example()
    transform = JpegQuality(min_quality=quality, max_quality=quality, probability=1.0)
    return float(tf.reduce_mean(tf.abs(transform(given)["image"] - given["image"])))


def test_a_lower_jpeg_quality_takes_the_image_further_away() -> None:
    assert packed(100) < packed(80) < packed(20)


def test_jpeg_qualities_differ_from_example_to_example() -> None:
    image = example()["image"]
    transform = JpegQuality(min_quality=10, max_quality=90, probability=1.0)
    results = {
        transform(example(seed) | {"image": image})["image"].numpy().tobytes() for seed in range(8)
    }
    assert len(results) > 4


def test_jpeg_takes_values_that_are_a_little_outside() -> None:
    given = example() | {
        "image": tf.concat([tf.fill((8, 8, 3), -0.4), tf.fill((8, 8, 3), 255.4)], 0)
    }
    image = JpegQuality(min_quality=95, probability=1.0)(given)["image"].numpy()
    assert np.allclose(image[:8], 0, atol=2)
    assert np.allclose(image[8:], 255, atol=2)


@pytest.mark.parametrize("ignore_holes", [False, True])
def test_a_hole_covers_the_image_and_the_mask_only_when_told(ignore_holes: bool) -> None:
    transform = Cutout(
        min_size=0.2, max_size=0.4, probability=1.0, ignore_holes=ignore_holes, fill=(1.0, 2.0, 3.0)
    )
    shapes = set()
    for seed in range(10):
        given = example(seed)
        result = transform(given)
        hole = (result["image"].numpy() == [1, 2, 3]).all(axis=-1)
        rows, columns = np.where(hole)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert hole.sum() == height * width
        assert 6 <= height <= 12
        assert 10 <= width <= 20
        assert np.array_equal(result["image"].numpy()[~hole], given["image"].numpy()[~hole])
        covered = np.where(hole, IGNORE_ID, given["mask"])
        assert np.array_equal(result["mask"], covered if ignore_holes else given["mask"])
        shapes.add((rows.min(), columns.min(), height, width))
    assert len(shapes) > 8


def test_there_are_as_many_holes_as_asked_for() -> None:
    given = example(size=(100, 100)) | {"image": tf.ones((100, 100, 3))}
    transform = Cutout(holes=5, min_size=0.1, max_size=0.1, probability=1.0, fill=(0.0, 0.0, 0.0))
    areas = [
        float(tf.reduce_sum(1 - transform(given | {"seed": [1, seed]})["image"][..., 0]))
        for seed in range(10)
    ]
    assert 300 < max(areas) <= 500
