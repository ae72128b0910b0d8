"""TFLiteEngine: a version's network in LiteRT, TFLite's interpreter, without TensorFlow.

LiteRT and not TensorFlow 2.15's own interpreter: where another process has one of the cores, the
threads of the latter wait for each other in turns of the scheduler, and an image takes five times
as long (docs/tflite.md).
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from segkit import contract
from segkit.engines.base import Code, StatusError
from segkit.engines.contract_engine import ContractEngine, Segmented, UInt8
from segkit.engines.cpu import usable_cores
from segkit.engines.variants import Variant
from segkit.errors import EngineUnavailable, ExportError

__all__ = ["TFLiteEngine"]

CONFIDENCE_SIGNATURE = "confidence"


class TFLiteEngine(ContractEngine):
    """One variant of a version in LiteRT, see `ContractEngine`.

    There is one interpreter, with a thread for each core, and a lock: an interpreter for each
    thread that asks would answer as many images a second, and hold the network as many times.
    The images of a batch run one after another, because together they are no faster.

    Args:
        version_dir: The folder of the version.
        variant: Which of its variants.

    Raises:
        ExportError: The file is missing, damaged, or of another image size than the version.
        EngineUnavailable: LiteRT is not installed.
        ContractMismatch: The version does not describe itself as segkit's exports do.
    """

    def __init__(self, version_dir: Path, variant: Variant) -> None:
        super().__init__(version_dir)
        self._lock = threading.Lock()
        self._interpreter = _load(version_dir / variant.path, self._image_size)
        # So that the first run is not slow: the network is unpacked when it is first run.
        self.segment(np.zeros((1, *self._image_size, 3), np.uint8), confidence=False, deadline=None)

    def segment(self, image: UInt8, *, confidence: bool, deadline: float | None) -> Segmented:
        """See `ContractEngine.segment`; a run is given up between two images alone."""
        signature = CONFIDENCE_SIGNATURE if confidence else contract.DEFAULT_SIGNATURE
        class_ids = np.empty(image.shape[:3], np.uint8)
        probabilities = np.empty_like(class_ids) if confidence else None
        for index in range(len(image)):
            # Taken for each image: who waits with one image need not wait for another's batch.
            left = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
            if left == 0 or not self._lock.acquire(timeout=left):
                raise StatusError(Code.DEADLINE_EXCEEDED, "the run took longer than its deadline")
            try:
                run = self._interpreter.get_signature_runner(signature)
                results = run(**{contract.IMAGE: image[index : index + 1]})
            except (RuntimeError, ValueError) as err:
                raise StatusError(Code.INTERNAL, str(err)) from err
            finally:
                self._lock.release()
            class_ids[index] = results[contract.CLASS_IDS][0]
            if probabilities is not None:
                probabilities[index] = results[contract.CONFIDENCE][0]
        return Segmented(class_ids, probabilities)

    def close(self) -> None:
        """Frees the interpreter."""
        self._interpreter = None


def _load(path: Path, image_size: tuple[int, int]) -> Any:
    """An interpreter of the file, which was looked through from end to end."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as err:
        raise EngineUnavailable(
            "tflite needs LiteRT, which is not installed",
            expected="the package ai-edge-litert, of requirements.txt",
            next_step="pip install -r requirements.txt -c constraints.txt",
        ) from err
    try:
        # Its own default is one thread.
        loaded = Interpreter(model_path=str(path), num_threads=usable_cores())
        signatures = loaded.get_signature_list()
        (image,) = loaded.get_input_details()
    except (RuntimeError, ValueError, OSError) as err:
        raise _cannot_load(path, str(err)) from err
    if not {contract.DEFAULT_SIGNATURE, CONFIDENCE_SIGNATURE} <= signatures.keys():
        found = ", ".join(signatures) or "none"
        raise _cannot_load(path, f"it has other signatures than a version's ({found})")
    shape = tuple(int(size) for size in image["shape"])
    if shape != (1, *image_size, 3) or image["dtype"] is not np.uint8:
        raise _cannot_load(path, f"it takes {np.dtype(image['dtype'])} images {shape}")
    return loaded


def _cannot_load(path: Path, problem: str) -> ExportError:
    return ExportError(
        f"'{path}' cannot be loaded by LiteRT: {problem.strip()}",
        expected="the .tflite file of this version, complete and undamaged",
        next_step="publish the model again by `python -m segkit export`",
    )
