"""The exponential moving average of a model's weights, evaluated and saved in their stead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

__all__ = ["WeightAverage"]


class WeightAverage(tf.Module):
    """Follows the weights of a model, those of batch normalisation that are not trained included.

    After n steps the decay is `min(decay, (1 + n) / (10 + n))`, so that the random weights at the
    start are soon forgotten (as in tf.train.ExponentialMovingAverage).

    Args:
        model: Whose weights; made in the scope of a strategy, as this is.
        decay: Share of the old average in the new one, 0..1.
    """

    def __init__(self, model: tf.keras.Model, decay: float) -> None:
        super().__init__(name="average")
        self._decay = decay
        self._weights = [weight for weight in model.weights if weight.dtype.is_floating]
        # Every replica computes its own, without a word to the others; all come to the same.
        self._averages = [
            tf.Variable(
                tf.convert_to_tensor(weight),
                trainable=False,
                dtype=weight.dtype,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
            )
            for weight in self._weights
        ]

    def update(self, step: tf.Tensor) -> None:
        """Takes the weights in; called on each replica after each step.

        Args:
            step: Number of steps done before, integer.
        """
        done = tf.cast(step, tf.float32)
        decay = tf.minimum(self._decay, (1.0 + done) / (10.0 + done))
        for average, weight in zip(self._averages, self._weights, strict=True):
            value = tf.convert_to_tensor(weight)
            average.assign_add((1.0 - decay) * (tf.cast(value, average.dtype) - average))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the model has the averages as its weights; called outside of replicas."""
        own = [_value(weight) for weight in self._weights]
        _assign(self._weights, [_value(average) for average in self._averages])
        try:
            yield
        finally:
            _assign(self._weights, own)


def _value(variable: Any) -> Any:
    return tf.convert_to_tensor(variable).numpy()


def _assign(variables: Any, values: Any) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
