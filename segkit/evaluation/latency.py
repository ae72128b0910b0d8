"""How long one batch takes, by engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tensorflow as tf

from segkit.engines.cpu import cpu_name
from segkit.video.meters import percentiles

__all__ = ["Latency", "measure_latency", "tensorflow_device"]

WARM_UP = 5  # runs before the first that counts: tracing, oneDNN's primitives, memory pools


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long one batch takes, from arrays in memory to arrays in memory.

    Args:
        engine: "keras" is the bare model, the others are of segkit.engines.
        device: What it ran on.
        batch_size: Images in one run.
        repeats: Runs that were measured.
        p50_ms: Half of the runs took no longer.
        p90_ms: Nine of ten took no longer.
        p99_ms: 99 of 100 took no longer.
    """

    engine: str
    device: str
    batch_size: int
    repeats: int
    p50_ms: float
    p90_ms: float
    p99_ms: float


def measure_latency(
    ways: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    batch_size: int,
    devices: Mapping[str, str],
) -> list[Latency]:
    """Times every way of running one batch; they take turns, so that all see the same machine.

    Args:
        ways: Engine -> one run, which returns when its result is there.
        repeats: Measured runs of each, after WARM_UP others.
        batch_size: Images in one run, for the record.
        devices: Engine -> what it runs on, for the record.
    """
    milliseconds: dict[str, list[float]] = {engine: [] for engine in ways}
    for turn in range(-WARM_UP, repeats):
        for engine, way in ways.items():
            start = time.perf_counter()
            way()
            if turn >= 0:
                milliseconds[engine].append(1e3 * (time.perf_counter() - start))
    rows = []
    for engine, values in milliseconds.items():
        p50, p90, p99 = percentiles(values)
        row = Latency(
            engine=engine,
            device=devices[engine],
            batch_size=batch_size,
            repeats=repeats,
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
        )
        rows.append(row)
    return rows


def tensorflow_device() -> str:
    """What TensorFlow runs on by default: the first GPU's name, else the processor's."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return cpu_name()
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    # From Ampere on TensorFlow multiplies float32 with ten bits of mantissa unless told otherwise.
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    return f"{name}, TF32 allowed" if tf32 else str(name)
