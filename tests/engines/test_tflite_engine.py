from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit.engines import Code, StatusError, open_engine
from segkit.errors import EngineUnavailable


@pytest.fixture(scope="module")
def engine(version: Path) -> Iterator[Any]:
    engine = open_engine(version, "tflite")
    yield engine
    engine.close()


def test_a_run_that_waits_for_another_is_given_up_too(engine: Any, images: np.ndarray) -> None:
    waited = threading.Event()

    def wait() -> None:
        with pytest.raises(StatusError) as caught:
            engine.run("serving_default", {"image": images[:1]}, timeout_s=0.05)
        assert caught.value.code == Code.DEADLINE_EXCEEDED
        waited.set()

    with engine._lock:
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert waited.is_set()


def test_without_litert_it_says_what_to_install(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(EngineUnavailable, match="tflite needs LiteRT") as caught:
        open_engine(copy, "tflite")
    assert "pip install" in caught.value.next_step
