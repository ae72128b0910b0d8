"""Optimizers by name. Normalisation and biases are never decayed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, get_args

import tensorflow as tf

from segkit.models import NETWORKS
from segkit.models.pretrained import is_head

__all__ = [
    "OPTIMIZERS",
    "OptimizerName",
    "PartOptimizer",
    "build_slots",
    "by_part",
    "current_learning_rate",
    "make_optimizer",
]

OptimizerName = Literal["sgd", "adam", "adamw", "radam", "ranger"]
OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)

_NEVER_DECAYED = ("gamma", "beta", "bias")
# What the authors of each recommend; Lookahead (Zhang et al. 2019) section 5.
_SYNC_PERIOD, _SLOW_STEP = 6, 0.5


def make_optimizer(name: OptimizerName, learning_rate: Any, *, weight_decay: float) -> Any:
    """Builds an optimizer.

    Args:
        name: "sgd" (momentum 0.9), "adam" (which ignores weight_decay), "adamw", "radam"
            (RectifiedAdam, Liu et al. 2020) or "ranger" (Lookahead over RectifiedAdam, Zhang et al.
            2019). The last two are of tensorflow-addons.
        learning_rate: A float or a schedule.
        weight_decay: Decoupled weight decay per unit of learning rate (Loshchilov and Hutter
            2019), with SGD too: it does not pass through the momentum.
    """
    optimizers = tf.keras.optimizers
    if name == "adam":
        return optimizers.Adam(learning_rate)
    if name in ("radam", "ranger"):
        return _of_addons(name, learning_rate, weight_decay)
    if name == "sgd":
        optimizer = optimizers.SGD(learning_rate, momentum=0.9, weight_decay=weight_decay or None)
    else:
        optimizer = optimizers.AdamW(learning_rate, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=list(_NEVER_DECAYED))
    return optimizer


def by_part(make: Callable[[float], Any], model: tf.keras.Model, *, backbone: float) -> Any:
    """An optimizer whose learning rate is another one for the backbone than for the head.

    Args:
        make: Builds an optimizer whose learning rate is times this factor.
        model: Of `build_model`.
        backbone: Factor of the backbone's learning rate; 1 asks for one optimizer for all.
    """
    if backbone == 1.0:
        return make(1.0)
    network = NETWORKS[model.name]
    parts = [
        int(is_head(layer.name, network)) for layer in model.layers for _ in layer.trainable_weights
    ]
    return PartOptimizer([make(backbone), make(1.0)], parts)


def build_slots(optimizer: Any, variables: Sequence[tf.Variable]) -> None:
    """Makes what an optimizer remembers of each variable, before the first step is traced."""
    if isinstance(optimizer, tf.keras.optimizers.legacy.Optimizer):
        optimizer._create_all_weights(variables)  # it has no public name for it
    else:
        optimizer.build(variables)


def current_learning_rate(optimizer: Any) -> float:
    """The learning rate of the last step; of the last part where parts have their own."""
    if isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if isinstance(optimizer, PartOptimizer):
        optimizer = optimizer.optimizers[-1]
    rate = optimizer.learning_rate
    if isinstance(rate, tf.keras.optimizers.schedules.LearningRateSchedule):
        rate = rate(optimizer.iterations - 1)
    return float(tf.convert_to_tensor(rate))  # a MirroredVariable on GPUs


class PartOptimizer(tf.keras.optimizers.Optimizer):
    """Several optimizers, each for a part of the weights.

    Args:
        optimizers: One for each part.
        parts: Part of each weight, in the order in which they are given to `apply_gradients`.
    """

    def __init__(self, optimizers: Sequence[Any], parts: Collection[int]) -> None:
        super().__init__(name="parts")
        self.optimizers = list(optimizers)
        self._parts = tuple(parts)

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Makes the slots of every part."""
        for part, optimizer in enumerate(self.optimizers):
            build_slots(optimizer, self._of(part, var_list))

    def apply_gradients(self, grads_and_vars: Any, name: Any = None, **kwargs: Any) -> tf.Variable:
        """Takes gradients that are summed over the replicas already, whatever `kwargs` say."""
        pairs = list(grads_and_vars)
        for part, optimizer in enumerate(self.optimizers):
            # A step that loss scaling leaves out counts here, and only here.
            optimizer.iterations.assign(self.iterations)
            optimizer.apply_gradients(
                self._of(part, pairs), name=name, experimental_aggregate_gradients=False
            )
        self.iterations.assign_add(1)
        return self.iterations

    def _of(self, part: int, values: Sequence[Any]) -> list[Any]:
        return [value for value, own in zip(values, self._parts, strict=True) if own == part]


def _of_addons(name: str, learning_rate: Any, weight_decay: float) -> Any:
    # Its own decay takes no exceptions. The library is at its end of life and says so on import.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_addons as tfa

    class RectifiedAdam(tfa.optimizers.RectifiedAdam):
        def _resource_apply_dense(self, grad: Any, var: Any, apply_state: Any = None) -> Any:
            if not weight_decay or any(part in var.name for part in _NEVER_DECAYED):
                return super()._resource_apply_dense(grad, var, apply_state)
            share = self._decayed_lr(var.dtype.base_dtype) * weight_decay
            with tf.control_dependencies([var.assign_sub(share * var)]):
                return super()._resource_apply_dense(grad, var, apply_state)

    optimizer = RectifiedAdam(learning_rate)
    if name == "radam":
        return optimizer
    return tfa.optimizers.Lookahead(optimizer, _SYNC_PERIOD, _SLOW_STEP)
