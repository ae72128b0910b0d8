"""What this processor can do: its name, and whether it computes in bfloat16."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from segkit.errors import EngineUnavailable

__all__ = ["computes_bfloat16", "cpu_name", "require_bfloat16", "usable_cores"]


def cpu_name() -> str:
    """The processor and how many of its cores this process may use."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {usable_cores()} cores"


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def computes_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 (AVX512-BF16 or AMX).

    Without them TensorFlow converts to and fro, which costs more than it saves, and OpenVINO takes
    the request and computes in float32.
    """
    flags = {flag for line in _cpuinfo() if line.startswith("flags") for flag in line.split()}
    return not flags.isdisjoint({"amx_bf16", "avx512_bf16"})


def require_bfloat16(variant: str) -> None:
    """Refuses a variant in bfloat16 where the processor has no instructions for it.

    Raises:
        EngineUnavailable: It has none.
    """
    if not computes_bfloat16():
        raise EngineUnavailable(
            f"{variant} cannot be run here: this processor ({cpu_name()}) has no instructions for "
            "bfloat16",
            expected="one with AVX512-BF16 or AMX",
            next_step=f"take {variant.partition(':')[0]}:float32 on this machine",
        )


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux: nobody to ask
        return []
