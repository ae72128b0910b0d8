"""Where training runs and in which precision."""

from __future__ import annotations

import logging
from pathlib import Path

import tensorflow as tf

from segkit.errors import ConfigError

__all__ = ["choose_precision", "make_strategy"]

logger = logging.getLogger(__name__)


def make_strategy(*, multi_gpu: bool, gpu_num: int) -> tf.distribute.Strategy:
    """Chooses the devices.

    Args:
        multi_gpu: Mirror the model over every visible GPU.
        gpu_num: The GPU to use otherwise, counted from 0; ignored where there is none.

    Raises:
        ConfigError: There is no GPU of that number.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus:
        logical = tf.config.list_logical_devices("CPU")
        if multi_gpu and len(logical) > 1:
            return tf.distribute.MirroredStrategy([device.name for device in logical])
        logger.info("no GPU found: training on the CPU")
        return tf.distribute.get_strategy()
    if multi_gpu:
        if len(gpus) == 1:
            logger.info("--multi_gpu: only one GPU is visible; going on with it")
        return tf.distribute.MirroredStrategy()
    if not 0 <= gpu_num < len(gpus):
        raise ConfigError(
            f"--gpu_num {gpu_num}: there is no such GPU",
            expected=f"0 to {len(gpus) - 1}; TensorFlow sees {len(gpus)}",
        )
    return tf.distribute.OneDeviceStrategy(f"/gpu:{gpu_num}")


def choose_precision(*, mixed: bool) -> str:
    """Sets Keras's global policy and returns its name.

    float16 on a GPU, bfloat16 on a CPU that computes in it, float32 elsewhere: on a CPU without
    bfloat16 instructions the conversions cost more than they save.
    """
    policy = "float32"
    if mixed and tf.config.list_physical_devices("GPU"):
        policy = "mixed_float16"
    elif mixed and _cpu_has_bfloat16():
        policy = "mixed_bfloat16"
    tf.keras.mixed_precision.set_global_policy(policy)
    return policy


def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:  # not Linux: nobody to ask
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags
