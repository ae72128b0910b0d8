"""What training minimises: losses from the list of a configuration, and what weighs the pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from segkit.entries import Catalog
from segkit.errors import ConfigError
from segkit.training import losses
from segkit.training.losses import AUXILIARY_WEIGHT, Loss, Target

__all__ = ["LOSSES", "Objective", "make_loss"]

LOSSES: dict[str, type[Any]] = {
    "cross_entropy": losses.CrossEntropy,
    "focal": losses.Focal,
    "binary_cross_entropy": losses.BinaryCrossEntropy,
    "binary_focal": losses.BinaryFocal,
    "ohem": losses.Ohem,
    "dice": losses.Dice,
    "lovasz": losses.Lovasz,
}
_CATALOG = Catalog(
    what="the loss",
    kind="loss",
    classes=LOSSES,
    words={"ce": ("cross_entropy",), "bce": ("binary_cross_entropy",)},
    hint="docs/losses.md lists the losses and their parameters",
)


@dataclass(frozen=True)
class Objective:
    """What training minimises.

    Args:
        loss: Of each head.
        class_weights: How much a pixel of each class counts; all alike if None.
        boundary_weight: By how much more a pixel near a boundary of two classes counts.
        boundary_radius: How near, pixels.
        auxiliary_weight: Of an auxiliary head's loss against the main one's.
    """

    loss: Loss = losses.CrossEntropy()  # noqa: RUF009 frozen
    class_weights: tuple[float, ...] | None = None
    boundary_weight: float = 1.0
    boundary_radius: int = 2
    auxiliary_weight: float = AUXILIARY_WEIGHT

    def target(self, mask: tf.Tensor) -> Target:
        """What a mask asks for: class ids of any integer dtype, (B, H, W)."""
        return losses.make_target(
            mask,
            class_weights=self.class_weights,
            boundary_weight=self.boundary_weight,
            boundary_radius=self.boundary_radius,
        )

    def __call__(
        self, heads: Sequence[tf.Tensor], target: Target, *, image_size: tuple[int, int]
    ) -> tf.Tensor:
        """This replica's share, see losses.deeply_supervised."""
        return losses.deeply_supervised(
            heads,
            target,
            image_size=image_size,
            loss=self.loss,
            auxiliary_weight=self.auxiliary_weight,
        )


def make_loss(entries: Iterable[Any]) -> Loss:
    """The weighted sum of a list of losses, such as `[ohem, {dice: {weight: 0.5}}]`.

    Args:
        entries: Names, or mappings of one name to its parameters; `weight` is 1 by default.

    Raises:
        ConfigError: There is no such loss or parameter, a value cannot be, or the list is empty.
    """
    parts = []
    for name, parameters in _CATALOG.expand(entries):
        weight = _CATALOG.convert(parameters.pop("weight", 1.0), float, f"{name} weight")
        if not weight > 0:
            raise ConfigError(f"the loss gives {name} weight {weight:g}", expected="above 0")
        parts.append((weight, _CATALOG.make(name, parameters)))
    if not parts:
        raise ConfigError("the loss is empty", expected="one of " + ", ".join(LOSSES))
    if len(parts) == 1 and parts[0][0] == 1.0:
        loss: Loss = parts[0][1]
        return loss
    return losses.WeightedSum(tuple(parts))
