"""Which transforms augment the train images, in which order."""

from __future__ import annotations

from segkit.data.transforms import PhotometricDistortion, RandomFlip, RandomScaleCrop, Transform

__all__ = ["default_augmentation"]


def default_augmentation(
    image_size: tuple[int, int], *, min_scale: float = 0.5, max_scale: float = 2.0
) -> tuple[Transform, ...]:
    """The augmentation of the published real-time networks: scale 0.5 to 2, flip, colours."""
    return (
        RandomScaleCrop(image_size, min_scale, max_scale),
        RandomFlip(),
        PhotometricDistortion(),
    )
