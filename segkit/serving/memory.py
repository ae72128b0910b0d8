"""How the C library keeps memory: a server's stays what it was after its first minutes.

glibc gives threads pools of their own, up to eight for each core, and each of them keeps what its
largest request needed. One pool for all is as fast here and half as large. What is free at its end
goes back to the system at once, by default, and each request then waits while the system clears
the same pages again, up to 3 ms for an image of 480x640; so some of it is kept.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["settle_memory"]

# glibc's malloc.h: the option, its value, and the variable by which a user decides it.
OPTIONS = (
    (-8, 1, "MALLOC_ARENA_MAX"),
    (-1, 64 << 20, "MALLOC_TRIM_THRESHOLD_"),
    (-3, 32 << 20, "MALLOC_MMAP_THRESHOLD_"),
)


def settle_memory() -> None:
    """Says so to glibc; to be called before there are threads. Other C libraries are left alone."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for option, value, variable in OPTIONS:
        if variable not in os.environ:
            mallopt(option, value)
