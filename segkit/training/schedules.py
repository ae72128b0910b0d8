"""Learning rates by step: linear warm-up, then a decay."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import tensorflow as tf

__all__ = ["DECAYS", "Decay", "WarmupDecay"]

Decay = Literal["polynomial", "cosine", "step", "constant"]
DECAYS: tuple[str, ...] = get_args(Decay)


@tf.keras.utils.register_keras_serializable("segkit")
class WarmupDecay(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to the peak, then a decay in t, which goes from 0 to 1 over the steps left.

    polynomial: `(1 - t) ** power`, 0.9 as DeepLab (Chen et al. 2017, section 4.1) and DDRNet use it
    cosine:     `(1 + cos(pi t)) / 2` (Loshchilov and Hutter 2017, eq. 5, without restarts)
    step:       times `factor` at each of `milestones`
    constant:   the peak

    Args:
        peak: Learning rate at the end of the warm-up.
        decay: One of the above.
        total_steps: Step at which t is 1.
        warmup_steps: Steps of the warm-up; the first one is already above 0.
        power: Of the polynomial.
        milestones: Of the steps, values of t, ascending.
        factor: Of the steps.
        end_share: Polynomial and cosine come down to this share of the peak, and stay there.
    """

    def __init__(
        self,
        peak: float,
        decay: Decay = "polynomial",
        *,
        total_steps: int,
        warmup_steps: int = 0,
        power: float = 0.9,
        milestones: tuple[float, ...] = (0.6, 0.85),
        factor: float = 0.1,
        end_share: float = 0.01,
    ) -> None:
        super().__init__()
        if decay not in DECAYS:
            raise ValueError(f"decay is {decay!r}: expected one of {', '.join(DECAYS)}")
        self.peak = peak
        self.decay = decay
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.power = power
        self.milestones = tuple(milestones)
        self.factor = factor
        self.end_share = end_share

    def __call__(self, step: Any) -> tf.Tensor:
        """The learning rate of a step, float32."""
        step = tf.cast(step, tf.float32)
        warmup = (step + 1.0) / max(1, self.warmup_steps)
        decay_steps = max(1, self.total_steps - self.warmup_steps)
        t = tf.clip_by_value((step - self.warmup_steps) / decay_steps, 0.0, 1.0)
        return self.peak * tf.where(step < self.warmup_steps, warmup, self._share(t))

    def _share(self, t: tf.Tensor) -> tf.Tensor:
        """Of the peak, at t."""
        if self.decay == "constant":
            return tf.ones_like(t)
        if self.decay == "step":
            passed = tf.reduce_sum(
                tf.cast(t[..., None] >= tf.constant(self.milestones, tf.float32), tf.float32), -1
            )
            return tf.pow(self.factor, passed)
        if self.decay == "cosine":
            share = (1.0 + tf.cos(math.pi * t)) / 2.0
        else:
            share = (1.0 - t) ** self.power
        return self.end_share + (1.0 - self.end_share) * share

    def get_config(self) -> dict[str, Any]:
        """The arguments, for `from_config`."""
        return {
            "peak": self.peak,
            "decay": self.decay,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "power": self.power,
            "milestones": self.milestones,
            "factor": self.factor,
            "end_share": self.end_share,
        }
