"""OpenVINOEngine: a version's network in OpenVINO, for servers without a GPU."""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from segkit import contract
from segkit.engines.base import Code, StatusError
from segkit.engines.contract_engine import ContractEngine, Segmented, UInt8
from segkit.engines.cpu import require_bfloat16
from segkit.engines.variants import Variant
from segkit.errors import ExportError

__all__ = ["OpenVINOEngine"]

DEVICE = "CPU"
# What the CPU computes in. int8 stands for float32 wherever the network is not quantised, so that
# the answers are those that were proved, whatever else the CPU could do.
HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


class OpenVINOEngine(ContractEngine):
    """One variant of a version in OpenVINO, see `ContractEngine`.

    A network is compiled for each batch size of the version, when that size first comes: compiled
    for any size it would be slower. Other batches are run in parts of those sizes.

    Args:
        version_dir: The folder of the version.
        variant: Which of its variants.

    Raises:
        ExportError: The file is missing or damaged, or this CPU does not compute in bfloat16.
        ContractMismatch: The version does not describe itself as segkit's exports do.
    """

    def __init__(self, version_dir: Path, variant: Variant) -> None:
        super().__init__(version_dir)
        assert self.metadata is not None
        if variant.name.precision == "bfloat16":
            require_bfloat16(str(variant.name))
        self._core = openvino.Core()
        self._hint = HINTS[variant.name.precision]
        self._model = self._read(version_dir / variant.path)
        self._sizes = sorted(self.metadata.batch_sizes, reverse=True)
        self._compiled: dict[tuple[int, bool], _Requests] = {}
        self._lock = threading.Lock()
        self._requests(self._sizes[-1], confidence=False)  # so that the first run is not slow

    def segment(self, image: UInt8, *, confidence: bool, deadline: float | None) -> Segmented:
        """See `ContractEngine.segment`."""
        parts = []
        start = 0
        while start < len(image):
            left = len(image) - start
            size = next((size for size in self._sizes if size <= left), self._sizes[-1])
            part = image[start : start + size]
            if len(part) < size:  # a version whose smallest batch is larger than what is left
                part = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            results = self._requests(size, confidence=confidence).infer(part, deadline)
            parts.append([result[:left] for result in results])
            start += size
        class_ids, *rest = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Segmented(class_ids, rest[0] if rest else None)

    def close(self) -> None:
        """Frees the compiled networks."""
        self._compiled.clear()

    def _read(self, path: Path) -> Any:
        try:
            model = self._core.read_model(path)
        except RuntimeError as err:
            raise _cannot_read(path, str(err).strip().splitlines()[-1]) from err
        shape = tuple(size.get_length() for size in list(model.input().partial_shape)[1:])
        if shape != (*self._image_size, 3):
            raise _cannot_read(path, f"it takes images {shape}")
        return model

    def _requests(self, batch_size: int, *, confidence: bool) -> _Requests:
        with self._lock:
            key = (batch_size, confidence)
            if key not in self._compiled:
                self._compiled[key] = self._compile(batch_size, confidence)
            return self._compiled[key]

    def _compile(self, batch_size: int, confidence: bool) -> _Requests:
        names = [contract.CLASS_IDS, contract.CONFIDENCE] if confidence else [contract.CLASS_IDS]
        model = self._model.clone()
        # OpenVINO computes every output: without this, whoever wants class ids pays for a softmax.
        model = openvino.Model([model.output(name) for name in names], model.get_parameters())
        model.reshape([batch_size, *model.input().partial_shape[1:]])
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self._hint}
        return _Requests(self._core.compile_model(model, DEVICE, hints), names)


def _cannot_read(path: Path, problem: str) -> ExportError:
    return ExportError(
        f"'{path}' cannot be read by OpenVINO: {problem}",
        expected="the network as `segkit export` wrote it, .xml and .bin side by side",
        next_step="publish the model again by `python -m segkit export`",
    )


class _Requests:
    """The inference requests of a compiled network: one for each thread that runs it just now."""

    def __init__(self, compiled: Any, outputs: list[str]) -> None:
        self._compiled = compiled
        self._outputs = outputs
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def infer(self, image: UInt8, deadline: float | None) -> list[UInt8]:
        try:
            request = self._free.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        try:
            request.start_async({0: image}, share_inputs=True)
            if deadline is None:
                request.wait()
            elif not request.wait_for(max(0, round(1e3 * (deadline - time.monotonic())))):
                request.cancel()
                raise StatusError(Code.DEADLINE_EXCEEDED, "the run took longer than its deadline")
            # Copies: the request's own memory is written anew by its next run.
            return [np.array(request.get_tensor(name).data) for name in self._outputs]
        except RuntimeError as err:
            raise StatusError(Code.INTERNAL, str(err)) from err
        finally:
            self._free.put(request)
