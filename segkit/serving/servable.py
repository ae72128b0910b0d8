"""Servable: one loaded version of a model, and Loader, which makes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
from tensorflow.core.protobuf import saved_model_pb2

from segkit.engines import AUTO, Engine, find_variant, open_variant
from segkit.serving.batching import Batching, BatchQueue, BatchScheduler
from segkit.serving.configs import read_message
from segkit.serving.folder import SAVED_MODEL_FILE
from segkit.serving.metrics import Metrics
from segkit.serving.server_config_pb2 import BatchingParameters

__all__ = ["BATCHING_FILE", "Loader", "Servable"]

BATCHING_FILE = "batching_params.pbtxt"  # in a version's folder
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Servable:
    """A version that can be run.

    Args:
        name: The model's name.
        version: Its number.
        engine: What runs it.
        engine_name: ENGINE:PRECISION of that.
        signature_defs: Signature name -> tensorflow.SignatureDef, as saved.
        metrics: What is counted.
        batching: How requests are put together, None for each on its own.
        scheduler: Whose threads run the batches, if there are any.
    """

    name: str
    version: int
    engine: Engine
    engine_name: str
    signature_defs: Mapping[str, Any]
    metrics: Metrics
    batching: Batching | None = None
    scheduler: BatchScheduler | None = None
    _queues: dict[tuple[str, ...], BatchQueue] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(
        self,
        signature: str,
        inputs: Mapping[str, Array],
        *,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Runs a signature, alone or in a batch with other requests, see `Engine.run`."""
        begin = time.perf_counter()
        names = list(self.engine.signatures[signature].outputs if outputs is None else outputs)
        if self.batching is None:
            results = self.engine.run(signature, inputs, outputs=names, timeout_s=timeout_s)
        else:
            results = self._queue(signature, names).run(inputs, timeout_s)
        self.metrics.ran(self.name, time.perf_counter() - begin)
        return {name: results[name] for name in names}

    def close(self) -> None:
        """Frees what the version holds. No request may be in flight or follow."""
        for queue in self._queues.values():
            assert self.scheduler is not None
            self.scheduler.remove_queue(queue)
        self.engine.close()

    def _queue(self, signature: str, outputs: Sequence[str]) -> BatchQueue:
        assert self.batching is not None and self.scheduler is not None
        key = (signature, *sorted(outputs))
        with self._lock:
            if key not in self._queues:
                run = partial(self._run_batch, signature, key[1:])
                self._queues[key] = self.scheduler.add_queue(run, self.batching)
            return self._queues[key]

    def _run_batch(
        self,
        signature: str,
        outputs: Sequence[str],
        inputs: Mapping[str, Array],
        timeout_s: float | None,
    ) -> dict[str, Array]:
        return self.engine.run(signature, inputs, outputs=outputs, timeout_s=timeout_s)


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Loads versions, all in the same way.

    Args:
        engine: See `segkit.engines.find_variant`.
        session_config: tensorflow.ConfigProto of TensorFlow's sessions, None for the usual one.
        batching: How requests are put together, None for each on its own.
        batching_per_model: Whether a version's own BATCHING_FILE goes before `batching`; a version
            without one is not batched then.
        scheduler: Whose threads run the batches; needed where `batching` is.
        metrics: What is counted.
    """

    engine: str = AUTO
    session_config: Any = None
    batching: Batching | None = None
    batching_per_model: bool = False
    scheduler: BatchScheduler | None = None
    metrics: Metrics = field(default_factory=Metrics)

    def load(self, name: str, path: Path) -> Servable:
        """Loads the version in a numbered folder.

        Raises:
            ExportError: It cannot be loaded on this machine.
            ConfigError: Its BATCHING_FILE cannot be read.
        """
        begin = time.perf_counter()
        loaded = False
        try:
            variant = find_variant(path, self.engine)
            engine = open_variant(path, variant, session_config=self.session_config)
            loaded = True
        finally:
            self.metrics.loaded(path, loaded, time.perf_counter() - begin)
        saved_model = saved_model_pb2.SavedModel.FromString((path / SAVED_MODEL_FILE).read_bytes())
        return Servable(
            name=name,
            version=int(path.name),
            engine=engine,
            engine_name=str(variant.name),
            signature_defs=dict(saved_model.meta_graphs[0].signature_def),
            metrics=self.metrics,
            batching=self._batching(path),
            scheduler=self.scheduler,
        )

    def _batching(self, path: Path) -> Batching | None:
        if self.batching is None or not self.batching_per_model:
            return self.batching
        file = path / BATCHING_FILE
        return Batching.of(read_message(file, BatchingParameters)) if file.is_file() else None
