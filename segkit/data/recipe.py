"""From the list in a configuration to the transforms of the train images.

An entry is the name of a transform, or a mapping of that name to its parameters:

    augmentation:
      - random_scale_crop: {max_class_share: 0.75}
      - random_flip
      - photometric_distortion: {brightness: 20}

`default` stands for the entries of DEFAULT, `none` for no entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from segkit.data.crops import ClassBalancedCrop, RandomScaleCrop
from segkit.data.photometric import Cutout, GaussianBlur, JpegQuality, PhotometricDistortion
from segkit.data.transforms import RandomFlip, RandomRotation, Resize, Transform
from segkit.entries import Catalog
from segkit.errors import ConfigError

__all__ = ["DEFAULT", "TRANSFORMS", "make_augmentation"]

TRANSFORMS: dict[str, type[Any]] = {
    "resize": Resize,
    "random_scale_crop": RandomScaleCrop,
    "class_balanced_crop": ClassBalancedCrop,
    "random_flip": RandomFlip,
    "random_rotation": RandomRotation,
    "photometric_distortion": PhotometricDistortion,
    "gaussian_blur": GaussianBlur,
    "jpeg_quality": JpegQuality,
    "cutout": Cutout,
}
# The augmentation of the published real-time networks.
DEFAULT = ("random_scale_crop", "random_flip", "photometric_distortion")

_CATALOG = Catalog(
    what="the augmentation",
    kind="transform",
    classes=TRANSFORMS,
    # YAML reads the words that people write for "as usual" and "not at all" as booleans.
    words={"default": DEFAULT, True: DEFAULT, "none": (), False: ()},
    hint="docs/transforms.md lists the transforms and their parameters",
)


def make_augmentation(
    entries: Iterable[Any],
    image_size: tuple[int, int],
    *,
    crop_size: tuple[int, int],
    **scales: float | None,
) -> tuple[Transform, ...]:
    """The transforms of a list of entries.

    Args:
        entries: Names, or mappings of one name to the parameters, as YAML reads them.
        image_size: Height and width that validation and the served model see, pixels.
        crop_size: Height and width of the train images, pixels.
        scales: `min_scale` and `max_scale` of the crops whose entries do not name their own; None:
            what the transform has.

    Raises:
        ConfigError: There is no such transform or parameter, a value cannot be, or a scale is
            given that no entry takes.
    """
    given = {name: value for name, value in scales.items() if value is not None}
    unused = set(given)
    transforms = []
    for name, parameters in _CATALOG.expand(entries):
        known = {field.name for field in fields(TRANSFORMS[name])}
        sizes = {"image_size": image_size, "crop_size": crop_size}
        size = {key: value for key, value in sizes.items() if key in known}
        taken = {key: value for key, value in given.items() if key in known - set(parameters)}
        unused -= set(taken)
        transforms.append(_CATALOG.make(name, parameters, size | taken))
    if crop_size != image_size and not any(hasattr(step, "crop_size") for step in transforms):
        raise ConfigError(
            f"--crop_size is {crop_size[0]} {crop_size[1]}, but no entry of the augmentation crops",
            expected="random_scale_crop or class_balanced_crop in --augmentation",
            next_step="leave --crop_size out to train on whole images",
        )
    if unused:
        flag = min(unused)
        raise ConfigError(
            f"--{flag} is {given[flag]:g}, but no entry of the augmentation takes it",
            expected=f"a crop that does not set {flag} itself, as random_scale_crop",
            next_step=f"leave --{flag} out, or write it into the entry of the crop",
        )
    return tuple(transforms)
