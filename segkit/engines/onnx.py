"""ONNXEngine: a version's network in ONNX Runtime."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from segkit import contract
from segkit.engines.base import Code, StatusError
from segkit.engines.contract_engine import ContractEngine, Segmented, UInt8
from segkit.engines.cpu import usable_cores
from segkit.engines.variants import Variant
from segkit.errors import EngineUnavailable, ExportError

__all__ = ["ONNXEngine"]

PROVIDERS = ["CPUExecutionProvider"]
FATAL = 4  # a severity of its log: whatever else it has to say comes as an exception, too


class ONNXEngine(ContractEngine):
    """One variant of a version in ONNX Runtime on the CPU, see `ContractEngine`.

    A batch of any size is one run, which is stopped between two operations when its time is over.

    Args:
        version_dir: The folder of the version.
        variant: Which of its variants.

    Raises:
        ExportError: The file is missing, damaged, or of another image size than the version.
        EngineUnavailable: The extra `onnx` is not installed.
        ContractMismatch: The version does not describe itself as segkit's exports do.
    """

    def __init__(self, version_dir: Path, variant: Variant) -> None:
        super().__init__(version_dir)
        self._file = _File(version_dir / variant.path, self._image_size)
        self._sessions: dict[bool, Any] = {}
        self._lock = threading.Lock()
        # So that the first run is not slow.
        self.segment(np.zeros((1, *self._image_size, 3), np.uint8), confidence=False, deadline=None)

    def segment(self, image: UInt8, *, confidence: bool, deadline: float | None) -> Segmented:
        """See `ContractEngine.segment`."""
        session = self._session(confidence)
        options = self._file.runtime.RunOptions()
        with _stopped(options, deadline) as is_late:
            try:
                results = session.run(_outputs(confidence), {contract.IMAGE: image}, options)
            except Exception as err:  # ONNX Runtime's errors have no class of their own above them
                if is_late():
                    raise StatusError(
                        Code.DEADLINE_EXCEEDED, "the run took longer than its deadline"
                    ) from err
                raise StatusError(Code.INTERNAL, str(err)) from err
        return Segmented(results[0], results[1] if confidence else None)

    def close(self) -> None:
        """Frees the sessions."""
        self._sessions.clear()

    def _session(self, confidence: bool) -> Any:
        with self._lock:
            if confidence not in self._sessions:
                self._sessions[confidence] = self._file.open_session(_outputs(confidence))
            return self._sessions[confidence]


class _File:
    """A network as `write_onnx` wrote it, in memory: its version may be removed while it serves."""

    def __init__(self, path: Path, image_size: tuple[int, int]) -> None:
        try:
            import onnx
            import onnxruntime
        except ImportError as err:
            raise EngineUnavailable(
                "onnx needs packages that are not installed, to run: onnx and onnxruntime",
                expected="those of the extra onnx",
                next_step='pip install -c constraints.txt -e ".[onnx]"',
            ) from err
        self.runtime = onnxruntime
        self._onnx = onnx
        self._path = path
        self._image_size = image_size
        try:
            self._model = onnx.load_model(path)
        except (OSError, DecodeError) as err:
            raise self._refuse(str(err)) from err

    def open_session(self, outputs: list[str]) -> Any:
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = usable_cores()  # its own default: all cores
        options.log_severity_level = FATAL
        try:
            content = self._part(outputs).SerializeToString()
            session = self.runtime.InferenceSession(content, options, PROVIDERS)
        except Exception as err:  # ONNX Runtime's errors have no class of their own above them
            raise self._refuse(str(err)) from err
        found = [(image.name, image.type, image.shape[1:]) for image in session.get_inputs()]
        if found != [(contract.IMAGE, "tensor(uint8)", [*self._image_size, 3])]:
            raise self._refuse(f"it takes {found}")
        return session

    def _part(self, outputs: list[str]) -> Any:
        """What is needed for some of the outputs: of what it has, ONNX Runtime computes all."""
        graph = self._model.graph
        needed = set(outputs)
        nodes = []
        for node in reversed(graph.node):  # they are in the order in which they are run
            if not needed.isdisjoint(node.output):
                nodes.append(node)
                needed.update(node.input)
        part = self._onnx.helper.make_graph(
            nodes[::-1],
            graph.name,
            graph.input,
            [output for output in graph.output if output.name in needed],
            [weight for weight in graph.initializer if weight.name in needed],
        )
        return self._onnx.helper.make_model(
            part, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )

    def _refuse(self, problem: str) -> ExportError:
        return ExportError(
            f"'{self._path}' cannot be loaded by ONNX Runtime: {problem.strip()}",
            expected="the .onnx file of this version, complete and undamaged",
            next_step="publish the model again by `python -m segkit export`",
        )


def _outputs(confidence: bool) -> list[str]:
    return [contract.CLASS_IDS, contract.CONFIDENCE] if confidence else [contract.CLASS_IDS]


@contextmanager
def _stopped(options: Any, deadline: float | None) -> Iterator[Callable[[], bool]]:
    """Ends the run with these options at its deadline; gives whether it has done so."""
    if deadline is None:
        yield lambda: False
        return
    left = max(0.0, deadline - time.monotonic())
    timer = threading.Timer(left, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield lambda: bool(options.terminate)
    finally:
        timer.cancel()
