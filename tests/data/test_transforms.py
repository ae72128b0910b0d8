from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from segkit.data.transforms import (
    Example,
    PhotometricDistortion,
    RandomFlip,
    RandomScaleCrop,
    Resize,
    Transform,
)
from segkit.labels import IGNORE_ID

SIZE = (24, 40)
TRANSFORMS = [
    Resize(SIZE),
    RandomScaleCrop(SIZE),
    RandomScaleCrop(SIZE, min_scale=0.4, max_scale=0.6),
    RandomScaleCrop(SIZE, min_scale=1.5, max_scale=2.5),
    RandomFlip(),
    PhotometricDistortion(probability=0.9),
]
EVERY = pytest.mark.parametrize("transform", TRANSFORMS, ids=str)


def example(seed: int = 0, size: tuple[int, int] = (30, 50)) -> Example:
    rng = np.random.default_rng(7)
    return {
        "image": tf.constant(rng.uniform(0, 255, (*size, 3)), tf.float32),
        "mask": tf.constant(rng.integers(0, 5, size), tf.uint8),
        "seed": tf.constant([3, seed], tf.int64),
        "stem": tf.constant("a"),
    }


def marked(seed: int) -> Example:
    """An image whose red channel says what its mask says, in areas larger than a kernel."""
    mask = np.kron(np.random.default_rng(1).integers(0, 2, (4, 5)), np.ones((16, 16)))
    image = np.stack([mask * 250] * 3, axis=-1)
    return {
        "image": tf.constant(image, tf.float32),
        "mask": tf.constant(mask, tf.uint8),
        "seed": tf.constant([0, seed], tf.int64),
    }


def same(left: Example, right: Example) -> bool:
    return all(np.allclose(left[key], right[key], atol=1e-3) for key in ("image", "mask", "seed"))


@EVERY
def test_tf_data_gives_what_eager_gives(transform: Transform) -> None:
    for seed in range(8):
        given = example(seed)
        in_graph = next(iter(tf.data.Dataset.from_tensors(given).map(transform)))
        assert same(transform(given), in_graph)


@EVERY
def test_examples_of_unknown_size_work_in_tf_data(transform: Transform) -> None:
    given = example()
    signature = {
        "image": tf.TensorSpec((None, None, 3), tf.float32),
        "mask": tf.TensorSpec((None, None), tf.uint8),
        "seed": tf.TensorSpec((2,), tf.int64),
        "stem": tf.TensorSpec((), tf.string),
    }
    unknown = tf.data.Dataset.from_generator(lambda: iter([given]), output_signature=signature)
    assert same(transform(given), next(iter(unknown.map(transform))))


@EVERY
def test_only_what_is_named_changes_and_types_and_ranges_stay(transform: Transform) -> None:
    given = example()
    before = {key: value.numpy() for key, value in given.items()}
    result = transform(given)
    assert result["stem"].numpy() == b"a"
    assert result.keys() == given.keys()
    assert (result["image"].dtype, result["mask"].dtype) == (tf.float32, tf.uint8)
    assert result["image"].shape[:2] == result["mask"].shape
    assert float(tf.reduce_min(result["image"])) >= -1e-3
    assert float(tf.reduce_max(result["image"])) <= 255 + 1e-3
    assert set(np.unique(result["mask"])) <= {0, 1, 2, 3, 4, IGNORE_ID}
    for key, value in before.items():
        assert np.array_equal(given[key].numpy(), value)


@pytest.mark.parametrize("transform", TRANSFORMS[1:], ids=str)
def test_a_seed_repeats_and_the_next_one_differs(transform: Transform) -> None:
    assert same(transform(example(1)), transform(example(1)))
    images = {transform(example(seed))["image"].numpy().tobytes() for seed in range(8)}
    assert len(images) > 1
    assert not np.array_equal(transform(example(1))["seed"], example(1)["seed"])


@pytest.mark.parametrize("transform", TRANSFORMS[:5], ids=str)
def test_image_and_mask_stay_aligned(transform: Transform) -> None:
    for seed in range(10):
        result = transform(marked(seed))
        mask, red = result["mask"].numpy(), result["image"].numpy()[..., 0]
        # Half-way values on the borders of the areas may fall to either side, nothing else.
        decided = (mask != IGNORE_ID) & (abs(red - 125) > 100)
        assert decided.sum() > 50
        assert np.array_equal(red[decided] > 125, mask[decided] == 1)


def test_resize_takes_image_and_mask_at_the_same_pixel_centers() -> None:
    ramp = np.arange(64, dtype=np.uint8)
    given = {
        "image": tf.constant(np.tile(ramp[None, :, None], (8, 1, 3)), tf.float32),
        "mask": tf.constant(np.tile(ramp, (8, 1))),
    }
    for width in (13, 32, 63, 100, 192):
        result = Resize((8, width))(given)
        difference = result["image"][..., 0] - tf.cast(result["mask"], tf.float32)
        inner = difference[:, width // 10 : -width // 10]  # antialiasing bends the ends
        # The nearest source pixel is never more than half a pixel from where the image was taken.
        assert float(tf.reduce_max(tf.abs(inner))) <= 0.5 + 1e-3


@pytest.mark.parametrize("size", [(30, 50), (30, 77), (61, 97), (20, 80), (13, 21)])
def test_resize_is_bilinear_with_antialiasing(size: tuple[int, int]) -> None:
    image = example()["image"]
    expected = tf.image.resize(image, size, antialias=True)
    assert np.allclose(Resize(size)(example())["image"], expected, atol=1e-2)


def test_resize_invents_no_class() -> None:
    mask = tf.constant([[0, 9], [9, 0]], tf.uint8)
    given = {"image": tf.zeros((2, 2, 3)), "mask": mask}
    assert set(np.unique(Resize((7, 11))(given)["mask"])) == {0, 9}


def test_below_scale_1_the_rest_is_ignored_and_filled() -> None:
    given = example(size=(48, 80))
    transform = RandomScaleCrop(SIZE, min_scale=0.5, max_scale=0.5, fill=(1.0, 2.0, 3.0))
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
    result = RandomScaleCrop(SIZE, min_scale=1.0, max_scale=1.0)(given)
    assert np.allclose(result["image"], Resize(SIZE)(given)["image"], atol=1e-3)
    assert np.array_equal(result["mask"], Resize(SIZE)(given)["mask"])


def test_above_scale_1_a_part_of_the_full_resolution_fills_the_output() -> None:
    given = example(size=(48, 80))
    transform = RandomScaleCrop(SIZE, min_scale=2.0, max_scale=2.0)
    image, mask = given["image"].numpy(), given["mask"].numpy()
    for seed in range(6):
        result = transform(given | {"seed": tf.constant([0, seed], tf.int64)})
        windows = np.lib.stride_tricks.sliding_window_view(mask, SIZE)
        top, left = np.argwhere((windows == result["mask"].numpy()).all(axis=(2, 3)))[0]
        part = image[top : top + SIZE[0], left : left + SIZE[1]]
        assert np.allclose(result["image"], part, atol=1e-2)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (200, 3)])
def test_odd_shapes_survive(size: tuple[int, int]) -> None:
    for seed in range(5):
        result = RandomScaleCrop(SIZE, min_scale=0.01, max_scale=9.0)(example(seed, size))
        assert result["mask"].shape == SIZE


def test_scales_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="0 < min <= max"):
        RandomScaleCrop(SIZE, min_scale=2.0, max_scale=1.0)


def test_a_flip_mirrors_image_and_mask_together_half_of_the_time() -> None:
    flips = 0
    for seed in range(40):
        given = example(seed)
        result = RandomFlip()(given)
        if np.array_equal(result["image"], given["image"]):
            assert np.array_equal(result["mask"], given["mask"])
        else:
            flips += 1
            assert np.array_equal(result["image"], given["image"][:, ::-1])
            assert np.array_equal(result["mask"], given["mask"][:, ::-1])
    assert 10 < flips < 30


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
