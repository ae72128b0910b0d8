"""From the list in a configuration to the transforms of the train images.

An entry is the name of a transform, or a mapping of that name to its parameters:

    augmentation:
      - random_scale_crop: {max_class_share: 0.75}
      - random_flip
      - photometric_distortion: {brightness: 20}

`default` stands for the entries of DEFAULT, `none` for no entry.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, get_args, get_origin, get_type_hints

from segkit.data.crops import ClassBalancedCrop, RandomScaleCrop
from segkit.data.photometric import Cutout, GaussianBlur, JpegQuality, PhotometricDistortion
from segkit.data.transforms import RandomFlip, RandomRotation, Resize, Transform
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

# YAML reads the words that people write for "as usual" and "not at all" as booleans.
_WORDS: dict[Any, tuple[str, ...]] = {"default": DEFAULT, True: DEFAULT, "none": (), False: ()}
_HINT = "docs/transforms.md lists the transforms and their parameters"


def make_augmentation(
    entries: Iterable[Any], image_size: tuple[int, int], **scales: float | None
) -> tuple[Transform, ...]:
    """The transforms of a list of entries.

    Args:
        entries: Names, or mappings of one name to the parameters, as YAML reads them.
        image_size: Height and width of what the transforms end at, pixels.
        scales: `min_scale` and `max_scale` of the crops whose entries do not name their own; None:
            what the transform has.

    Raises:
        ConfigError: There is no such transform or parameter, a value cannot be, or a scale is
            given that no entry takes.
    """
    given = {name: value for name, value in scales.items() if value is not None}
    unused = set(given)
    transforms = []
    for name, parameters in _expanded(entries):
        known = {field.name for field in fields(TRANSFORMS[name])}
        size = {"image_size": image_size} if "image_size" in known else {}
        taken = {key: value for key, value in given.items() if key in known - set(parameters)}
        unused -= set(taken)
        transforms.append(_make(name, parameters, size | taken))
    if unused:
        flag = min(unused)
        raise ConfigError(
            f"--{flag} is {given[flag]:g}, but no entry of the augmentation takes it",
            expected=f"a crop that does not set {flag} itself, as random_scale_crop",
            next_step=f"leave --{flag} out, or write it into the entry of the crop",
        )
    return tuple(transforms)


def _expanded(entries: Iterable[Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Names and parameters; `default` and `none` replaced by what they stand for."""
    for entry in entries:
        if isinstance(entry, (str, bool)) and entry in _WORDS:
            yield from ((name, {}) for name in _WORDS[entry])
            continue
        name, parameters = entry, None
        if isinstance(entry, Mapping) and len(entry) == 1:
            ((name, parameters),) = entry.items()
        if not isinstance(name, str):
            raise ConfigError(
                f"the augmentation has the entry {entry!r}",
                expected="the name of a transform, or 'name: {parameter: value}'",
                next_step=_HINT,
            )
        if name not in TRANSFORMS:
            raise ConfigError(
                f"the augmentation has '{name}', which is no transform",
                expected=_available(name, ("default", "none", *TRANSFORMS)),
                next_step=_HINT,
            )
        if not isinstance(parameters, Mapping | None):
            raise ConfigError(
                f"the augmentation gives {name} {parameters!r}",
                expected=f"'{name}: {{parameter: value}}', or '{name}' alone",
                next_step=_HINT,
            )
        yield name, parameters or {}


def _make(name: str, parameters: Mapping[str, Any], shared: Mapping[str, Any]) -> Transform:
    kind = TRANSFORMS[name]
    hints = get_type_hints(kind)
    free = [field.name for field in fields(kind) if field.default is not MISSING]
    values = dict(shared)
    for key, value in parameters.items():
        if key not in free:
            raise ConfigError(
                f"the augmentation gives {name} the parameter '{key}', which it does not take",
                expected=_available(str(key), free),
                next_step=_HINT,
            )
        try:
            values[key] = _converted(value, hints[key])
        except TypeError as err:
            raise ConfigError(
                f"the augmentation gives {name} {key} {value!r}",
                expected=str(err),
                next_step=_HINT,
            ) from err
    try:
        transform: Transform = kind(**values)
    except ValueError as err:
        problem, _, expected = str(err).partition(": expected ")
        raise ConfigError(
            f"the augmentation gives {name} {problem}", expected=expected, next_step=_HINT
        ) from err
    return transform


def _converted(value: Any, hint: Any) -> Any:
    """The value as the type that a parameter has; a TypeError says what was expected."""
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        length = None if kinds[-1] is Ellipsis else len(kinds)
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise TypeError("a list of numbers")
        if length not in (None, len(value)):
            raise TypeError(f"a list of {length} numbers")
        return tuple(_converted(element, kinds[0]) for element in value)
    if hint is bool:
        expected, fits = "true or false", isinstance(value, bool)
    elif hint is int:
        expected, fits = "a whole number", isinstance(value, int) and not isinstance(value, bool)
    else:
        expected = "a number"
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not fits:
        raise TypeError(expected)
    return hint(value)


def _available(name: str, there: Sequence[str]) -> str:
    if not there:
        return "no parameters"
    close = difflib.get_close_matches(name, there, n=2)
    known = ", ".join(there)
    return f"perhaps {' or '.join(close)}; there are {known}" if close else f"one of {known}"
