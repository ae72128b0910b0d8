from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml

from segkit.data.crops import ClassBalancedCrop, RandomScaleCrop
from segkit.data.photometric import Cutout, JpegQuality, PhotometricDistortion
from segkit.data.pipeline import Examples, train_batches
from segkit.data.recipe import TRANSFORMS, make_augmentation
from segkit.data.transforms import RandomFlip, RandomRotation, Resize
from segkit.errors import ConfigError

SIZE = (16, 24)
DEFAULT = (RandomScaleCrop(SIZE, SIZE), RandomFlip(), PhotometricDistortion())


def made(text: str, **scales: float | None) -> tuple:
    return make_augmentation(yaml.safe_load(text), SIZE, crop_size=SIZE, **scales)


def test_a_list_becomes_transforms_in_its_order() -> None:
    text = """
    - resize
    - random_flip
    - random_scale_crop: {min_scale: 1, max_scale: 1.5, max_class_share: 0.75, tries: 5}
    - class_balanced_crop: {class_shares: [0.7, 0.2, 0.1], fill: [0, 0, 0]}
    - random_rotation: {}
    - jpeg_quality:
        min_quality: 60
    - cutout: {ignore_holes: true}
    - random_flip: {probability: 1}
    """
    assert made(text) == (
        Resize(SIZE),
        RandomFlip(),
        RandomScaleCrop(SIZE, SIZE, 1.0, 1.5, max_class_share=0.75, tries=5),
        ClassBalancedCrop(SIZE, SIZE, class_shares=(0.7, 0.2, 0.1), fill=(0.0, 0.0, 0.0)),
        RandomRotation(),
        JpegQuality(min_quality=60),
        Cutout(ignore_holes=True),
        RandomFlip(probability=1.0),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[default]", DEFAULT),
        ("[true]", DEFAULT),
        ("[none]", ()),
        ("[false]", ()),
        ("[]", ()),
        ("[default, random_rotation]", (*DEFAULT, RandomRotation())),
    ],
)
def test_a_word_stands_for_a_list(text: str, expected: tuple) -> None:
    assert made(text) == expected


def test_scales_are_those_of_every_crop_that_does_not_name_its_own() -> None:
    text = "[random_scale_crop: {min_scale: 1}, class_balanced_crop, random_flip]"
    assert made(text, min_scale=0.8, max_scale=3.0) == (
        RandomScaleCrop(SIZE, SIZE, 1.0, 3.0),
        ClassBalancedCrop(SIZE, SIZE, 0.8, 3.0),
        RandomFlip(),
    )
    assert made("[default]", min_scale=0.8, max_scale=None)[0] == RandomScaleCrop(
        SIZE, SIZE, 0.8, 2.0
    )


@pytest.mark.parametrize(
    "text", ["[none]", "[random_flip]", "[random_scale_crop: {min_scale: 0.5}]"]
)
def test_a_scale_that_nothing_takes_is_not_silently_left_out(text: str) -> None:
    with pytest.raises(ConfigError, match="--min_scale is 0.7, but no entry") as caught:
        made(text, min_scale=0.7)
    assert "leave --min_scale out" in caught.value.next_step


@pytest.mark.parametrize(
    ("text", "problem", "expected"),
    [
        ("[random_flop]", "'random_flop', which is no transform", "perhaps random_flip"),
        ("[sharpen]", "'sharpen', which is no transform", "resize, random_scale_crop"),
        ("[sharpen]", "no transform", "one of default, none"),
        ("[3]", "has the entry 3", "the name of a transform"),
        ("[null]", "has the entry None", "the name of a transform"),
        ("[[random_flip]]", "has the entry ['random_flip']", "the name of a transform"),
        ("[{random_flip: {}, cutout: {}}]", "has the entry {", "'name: {parameter: value}'"),
        ("[random_flip: 0.5]", "gives random_flip 0.5", "'random_flip: {parameter: value}'"),
        ("[random_flip: {p: 1}]", "gives random_flip the parameter 'p'", "one of probability"),
        (
            "[random_scale_crop: {min_scales: 1}]",
            "the parameter 'min_scales'",
            "perhaps min_scale",
        ),
        ("[resize: {image_size: [1, 2]}]", "resize the parameter 'image_size'", "no parameters"),
        ("[random_flip: {probability: often}]", "probability 'often'", "a number"),
        ("[random_flip: {probability: true}]", "probability True", "a number"),
        ("[jpeg_quality: {min_quality: 60.5}]", "min_quality 60.5", "a whole number"),
        ("[cutout: {ignore_holes: 1}]", "ignore_holes 1", "true or false"),
        ("[cutout: {fill: [0, 0]}]", "fill [0, 0]", "a list of 3 numbers"),
        ("[cutout: {fill: black}]", "fill 'black'", "a list of numbers"),
        ("[cutout: {fill: [0, 0, x]}]", "fill [0, 0, 'x']", "a number"),
        ("[random_flip: {probability: 2}]", "random_flip probability is 2", "0 to 1"),
        ("[random_rotation: {max_degrees: .nan}]", "max_degrees is nan", "0 to 180"),
        (
            "[random_scale_crop: {min_scale: 3}]",
            "min_scale 3.0, max_scale 2.0",
            "0 < min <= max",
        ),
    ],
)
def test_what_cannot_be_is_named_with_what_can(text: str, problem: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(text)
    assert caught.value.problem.startswith("the augmentation ")
    assert problem in caught.value.problem
    assert expected in caught.value.expected
    assert "docs/transforms.md" in caught.value.next_step


def test_scales_of_flags_that_cannot_be_are_named() -> None:
    with pytest.raises(ConfigError, match=r"min_scale 2.0, max_scale 1.0"):
        made("[default]", min_scale=2.0, max_scale=1.0)


def test_crops_of_another_size_take_an_entry_that_crops() -> None:
    (crop,) = make_augmentation(["random_scale_crop"], (48, 96), crop_size=(32, 32))
    assert crop == RandomScaleCrop((48, 96), (32, 32))
    with pytest.raises(ConfigError, match="--crop_size is 32 32, but no entry") as caught:
        make_augmentation(["random_flip"], (48, 96), crop_size=(32, 32))
    assert "random_scale_crop" in caught.value.expected


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_parameter_can_be_written_in_yaml(name: str) -> None:
    kind: Any = TRANSFORMS[name]
    known = {field.name for field in fields(kind)}
    size = {key: SIZE for key in ("image_size", "crop_size") if key in known}
    plain = kind(**size)
    values = {field.name: getattr(plain, field.name) for field in fields(kind)}
    lists = {
        key: list(v) if isinstance(v, tuple) else v for key, v in values.items() if key not in size
    }
    assert made(yaml.safe_dump([{name: lists}])) == (plain,)


def first_batches(seed: int) -> list[bytes]:
    """The first 20 batches of a training with every transform there is."""
    rng = np.random.default_rng(3)
    examples = tf.data.Dataset.from_tensor_slices(
        {
            "image": rng.integers(0, 256, (9, 20, 30, 3), np.uint8),
            "mask": rng.integers(0, 4, (9, 20, 30), np.uint8),
        }
    )
    batches = train_batches(
        Examples(examples),
        image_size=SIZE,
        batch_size=4,
        augmentation=make_augmentation(TRANSFORMS, SIZE, crop_size=SIZE),
        seed=seed,
    )
    return [image.numpy().tobytes() + mask.numpy().tobytes() for image, mask in batches.take(20)]


def test_the_same_seed_gives_the_same_20_batches_bit_for_bit() -> None:
    first, second, other = (first_batches(seed) for seed in (1, 1, 2))
    assert first == second
    assert not set(first) & set(other)
    assert len(set(first)) == 20
