"""Learning rates by step."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = ["PolynomialWithWarmup"]


@tf.keras.utils.register_keras_serializable("segkit")
class PolynomialWithWarmup(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then `peak * (1 - t) ** power`, t going from 0 to 1 over the steps left.

    Args:
        peak: Learning rate at the end of the warm-up.
        total_steps: Step at which the rate has come down to `end_share * peak`.
        warmup_steps: Steps of the warm-up; the first one is already above 0.
        power: 0.9, as DeepLab (Chen et al. 2017, section 4.1) and DDRNet use it.
        end_share: The rate never falls below this share of the peak.
    """

    def __init__(
        self,
        peak: float,
        *,
        total_steps: int,
        warmup_steps: int = 0,
        power: float = 0.9,
        end_share: float = 0.01,
    ) -> None:
        super().__init__()
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.power = power
        self.end_share = end_share

    def __call__(self, step: Any) -> tf.Tensor:
        """The learning rate of a step, float32."""
        step = tf.cast(step, tf.float32)
        warmup = (step + 1.0) / max(1, self.warmup_steps)
        decay_steps = max(1, self.total_steps - self.warmup_steps)
        t = tf.clip_by_value((step - self.warmup_steps) / decay_steps, 0.0, 1.0)
        decay = self.end_share + (1.0 - self.end_share) * (1.0 - t) ** self.power
        return self.peak * tf.where(step < self.warmup_steps, warmup, decay)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for `from_config`."""
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "power": self.power,
            "end_share": self.end_share,
        }
