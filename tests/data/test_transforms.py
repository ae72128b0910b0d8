from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tiny_examples import example, follows, marked, same

from segkit.data.crops import ClassBalancedCrop, RandomScaleCrop
from segkit.data.photometric import Cutout, GaussianBlur, JpegQuality, PhotometricDistortion
from segkit.data.recipe import TRANSFORMS as BY_NAME
from segkit.data.transforms import RandomFlip, RandomRotation, Resize, Transform
from segkit.labels import IGNORE_ID

SIZE = (24, 40)
GEOMETRY = [
    RandomScaleCrop(SIZE, SIZE),
    RandomScaleCrop(SIZE, SIZE, min_scale=0.4, max_scale=0.6),
    RandomScaleCrop(SIZE, SIZE, min_scale=1.5, max_scale=2.5),
    RandomScaleCrop(SIZE, SIZE, max_class_share=0.23, min_scale=1.5, max_scale=3.0),
    ClassBalancedCrop(SIZE, SIZE, probability=0.8, max_scale=4.0),
    RandomFlip(),
    RandomRotation(max_degrees=40.0),
]
LOOKS = [
    PhotometricDistortion(probability=0.9),
    GaussianBlur(probability=0.9),
    JpegQuality(probability=0.9),
    Cutout(holes=2, max_size=0.5, probability=0.9),
    Cutout(ignore_holes=True),
]
RANDOM = [*GEOMETRY, *LOOKS]
EVERY = pytest.mark.parametrize("transform", [Resize(SIZE), *RANDOM], ids=str)


def test_every_transform_there_is_is_tried_here() -> None:
    assert {type(transform) for transform in (Resize(SIZE), *RANDOM)} == set(BY_NAME.values())


@EVERY
def test_tf_data_gives_what_eager_gives(transform: Transform) -> None:
    given = [example(seed) for seed in range(8)]
    stacked = {key: tf.stack([one[key] for one in given]) for key in given[0]}
    in_graph = tf.data.Dataset.from_tensor_slices(stacked).map(transform)
    for one, result in zip(given, in_graph, strict=True):
        assert same(transform(one), result)


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


@EVERY
def test_a_known_size_stays_known(transform: Transform) -> None:
    given = Resize(SIZE)(example())
    traced = tf.function(transform).get_concrete_function(given).structured_outputs
    assert (traced["image"].shape, traced["mask"].shape) == ((*SIZE, 3), SIZE)


@pytest.mark.parametrize("transform", RANDOM, ids=str)
def test_a_seed_repeats_and_the_next_one_differs(transform: Transform) -> None:
    assert same(transform(example(1)), transform(example(1)))
    images = {transform(example(seed))["image"].numpy().tobytes() for seed in range(8)}
    assert len(images) > 1
    assert not np.array_equal(transform(example(1))["seed"], example(1)["seed"])


@pytest.mark.parametrize("transform", [Resize(SIZE), *GEOMETRY], ids=str)
def test_image_and_mask_stay_aligned(transform: Transform) -> None:
    assert all(follows(transform(marked(seed))) for seed in range(10))


@pytest.mark.parametrize("transform", LOOKS[:-1], ids=str)
def test_what_changes_looks_keeps_the_mask(transform: Transform) -> None:
    for seed in range(5):
        assert np.array_equal(transform(example(seed))["mask"], example(seed)["mask"])


@pytest.mark.parametrize("kind", [RandomFlip, RandomRotation, GaussianBlur, JpegQuality, Cutout])
def test_the_probability_is_a_share_of_the_examples(kind: type) -> None:
    def changed(probability: float, seed: int) -> bool:
        given = example(seed)
        result = kind(probability=probability)(given)
        return not np.array_equal(result["image"], given["image"])

    assert not any(changed(0.0, seed) for seed in range(10))
    assert sum(changed(1.0, seed) for seed in range(10)) >= 9  # a blur may be too weak to see
    assert 4 < sum(changed(0.5, seed) for seed in range(24)) < 20


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


def turned(seed: int, degrees: float = 40.0, size: tuple[int, int] = (33, 47)) -> tuple:
    given = example(seed, size)
    given["image"] = given["image"] * 0 + 200.0
    transform = RandomRotation(max_degrees=degrees, probability=1.0, fill=(1.0, 2.0, 3.0))
    result = transform(given)
    return given, result["image"].numpy(), result["mask"].numpy()


def test_a_rotation_ignores_and_fills_what_comes_in_from_outside() -> None:
    ignored = []
    for seed in range(8):
        _, image, mask = turned(seed)
        outside = mask == IGNORE_ID
        ignored.append(int(outside.sum()))
        # On the border itself the image is a mixture of inside and fill.
        deep = tf.nn.erosion2d(
            tf.cast(outside, tf.float32)[None, ..., None],
            tf.zeros((3, 3, 1)),
            [1, 1, 1, 1],
            "SAME",
            "NHWC",
            [1, 1, 1, 1],
        )[0, ..., 0].numpy()
        assert np.allclose(image[deep == 1], [1, 2, 3], atol=1e-3)
        assert image[~outside].min() > 90
    assert max(ignored) > 100 > min(ignored)


def test_a_rotation_turns_about_the_center_to_both_sides() -> None:
    given, sides = example(0, (33, 47)), set()
    center = np.zeros((33, 47), np.uint8)
    center[16, 23] = 1
    arm = center.copy()
    arm[16, 33:36] = 2
    for seed in range(12):
        draw = {"mask": tf.constant(arm), "seed": tf.constant([0, seed], tf.int64)}
        mask = RandomRotation(max_degrees=40.0, probability=1.0)(given | draw)["mask"].numpy()
        assert mask[16, 23] == 1
        rows, columns = np.where(mask == 2)
        assert abs(np.hypot(rows.mean() - 16, columns.mean() - 23) - 11) < 1
        sides.add(int(np.sign(rows.mean() - 16)))
    assert {-1, 1} <= sides


def test_no_rotation_changes_nothing() -> None:
    given, image, mask = turned(3, degrees=0.0)
    assert np.allclose(image, given["image"], atol=1e-3)
    assert np.array_equal(mask, given["mask"])


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Resize, {"image_size": (0, 4)}),
        (RandomScaleCrop, {"image_size": SIZE, "crop_size": SIZE, "max_class_share": 1.5}),
        (RandomScaleCrop, {"image_size": SIZE, "crop_size": SIZE, "tries": 0}),
        (RandomScaleCrop, {"image_size": SIZE, "crop_size": SIZE, "fill": (0.0, 0.0, 256.0)}),
        (ClassBalancedCrop, {"image_size": SIZE, "crop_size": SIZE, "probability": -0.1}),
        (ClassBalancedCrop, {"image_size": SIZE, "crop_size": SIZE, "class_shares": (0.5, -0.5)}),
        (RandomFlip, {"probability": 2.0}),
        (RandomRotation, {"max_degrees": 181.0}),
        (RandomRotation, {"max_degrees": float("nan")}),
        (PhotometricDistortion, {"hue": 0.6}),
        (PhotometricDistortion, {"brightness": -1.0}),
        (GaussianBlur, {"max_sigma": 0.0}),
        (JpegQuality, {"max_quality": 101}),
        (Cutout, {"holes": 0}),
        (Cutout, {"max_size": 1.1}),
    ],
)
def test_a_parameter_out_of_range_is_named(kind: type, wrong: dict) -> None:
    name = list(wrong)[-1]
    with pytest.raises(ValueError, match=f"^{name} is .*: expected "):
        kind(**wrong)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (
            RandomScaleCrop,
            {"image_size": SIZE, "crop_size": SIZE, "min_scale": 2.0, "max_scale": 1.0},
        ),
        (RandomScaleCrop, {"image_size": SIZE, "crop_size": SIZE, "min_scale": 0.0}),
        (ClassBalancedCrop, {"image_size": SIZE, "crop_size": SIZE, "min_scale": 3.0}),
        (JpegQuality, {"min_quality": 80, "max_quality": 70}),
        (Cutout, {"min_size": 0.5, "max_size": 0.1}),
    ],
)
def test_a_smallest_above_the_largest_is_refused(kind: type, wrong: dict) -> None:
    with pytest.raises(ValueError, match="expected .*min <= max"):
        kind(**wrong)
