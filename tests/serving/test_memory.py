from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from segkit.serving.memory import OPTIONS, settle_memory

PROGRAM = """
import ctypes, threading
from segkit.serving.memory import settle_memory
{call}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(8)
def allocate():
    libc.malloc(5000)
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_stats()
"""
glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="this is not glibc"
)


def arenas(call: str, **environment: str) -> int:
    """How many pools eight threads make."""
    variables = {name for *_, name in OPTIONS}
    clean = {name: value for name, value in os.environ.items() if name not in variables}
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(call=call)],
        env={**clean, **environment},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    return sum(line.startswith("Arena ") for line in process.stderr.splitlines())


@glibc
def test_all_threads_share_one_pool() -> None:
    assert arenas("") > 1
    assert arenas("settle_memory()") == 1


@glibc
def test_what_the_user_decided_stands() -> None:
    assert arenas("settle_memory()", MALLOC_ARENA_MAX="2") == 2


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    settle_memory()
