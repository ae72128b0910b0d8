"""Metrics: what TensorFlow Serving counts, under its names, as the page that Prometheus reads.

Names, labels and buckets are those of tensorflow/serving 2.15 (servables/tensorflow/util.cc,
batching/batching_session.cc). prometheus-client would call every counter `..._total`, which that
server does not, so the few lines of text are written here.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from segkit.engines import Code

__all__ = ["PROMETHEUS_PATH", "Metrics"]

PROMETHEUS_PATH = "/monitoring/prometheus/metrics"
Labels = tuple[str, ...]


class Metrics:
    """Counts and times of one server. Threads may write and read at the same time."""

    def __init__(self) -> None:
        self._requests = _Counter("/tensorflow/serving/request_count", "model_name", "status")
        self._request_latency = _Histogram(
            "/tensorflow/serving/request_latency",
            _exponential(10, 1.8, 33),
            "model_name",
            "API",
            "entrypoint",
        )
        self._runtime_latency = _Histogram(
            "/tensorflow/serving/runtime_latency",
            _exponential(10, 1.8, 33),
            "model_name",
            "API",
            "runtime",
        )
        self._queuing_latency = _Histogram(
            "/tensorflow/serving/batching_session/queuing_latency",
            _exponential(100, 1.2, 52),
            "thread_pool_name",
        )
        self._batches = _Counter("/tensorflow/serving/batching_session/wrapped_run_count")
        self._warmup_latency = _Histogram(
            "/tensorflow/serving/model_warmup_latency",
            _exponential(10, 1.8, 33),
            "model_path",
            "status",
        )
        self._loads = _Counter(
            "/tensorflow/cc/saved_model/load_attempt_count", "model_path", "status"
        )
        self._load_latency = _Counter("/tensorflow/cc/saved_model/load_latency", "model_path")

    def request(self, model: str, api: str, entrypoint: str, code: Code, seconds: float) -> None:
        """A request was answered.

        Args:
            model: The name that it asked for.
            api: "Predict", "Classify" or "Regress".
            entrypoint: "GRPC" or "REST".
            code: With which status; only what went well is timed.
            seconds: From its arrival to its answer.
        """
        self._requests.add(1, model, code.name)
        if code == Code.OK:
            self._request_latency.add(1e6 * seconds, model, api, entrypoint)

    def ran(self, model: str, seconds: float) -> None:
        """The engine answered a Predict."""
        self._runtime_latency.add(1e6 * seconds, model, "Predict", "TF1")

    def queued(self, thread_pool: str, seconds: float) -> None:
        """A request left the batching queue."""
        self._queuing_latency.add(1e6 * seconds, thread_pool)

    def batched(self) -> None:
        """A batch was run."""
        self._batches.add(1)

    def warmed_up(self, path: Path, code: Code, seconds: float) -> None:
        """The warm-up records of a version were replayed."""
        self._warmup_latency.add(1e6 * seconds, str(path), code.name)

    def loaded(self, path: Path, succeeded: bool, seconds: float) -> None:
        """A version was loaded, or not."""
        self._loads.add(1, str(path), "success" if succeeded else "fail")
        self._load_latency.add(round(1e6 * seconds), str(path))

    def value(self, name: str) -> int:
        """A counter by TensorFlow's name of it, such as "/tensorflow/serving/request_count".

        As in TensorFlow Serving it is that of its first labels; 0 for an unknown name.
        """
        for metric in self._all():
            if metric.name == name:
                return metric.first()
        return 0

    def page(self) -> str:
        """All of them, in Prometheus's text format."""
        return "".join(f"{line}\n" for metric in self._all() for line in metric.lines())

    def _all(self) -> Sequence[_Counter | _Histogram]:
        metrics = [m for m in vars(self).values() if isinstance(m, (_Counter, _Histogram))]
        return sorted(metrics, key=lambda metric: metric.name)


class _Counter:
    def __init__(self, name: str, *label_names: str) -> None:
        self.name = name
        self._label_names = label_names
        self._counts: dict[Labels, int] = {}
        self._lock = threading.Lock()

    def add(self, count: int, *labels: str) -> None:
        with self._lock:
            self._counts[labels] = self._counts.get(labels, 0) + count

    def first(self) -> int:
        with self._lock:
            return self._counts[min(self._counts)] if self._counts else 0

    def lines(self) -> Iterable[str]:
        with self._lock:
            counts = sorted(self._counts.items())
        if counts:
            yield f"# TYPE {_exposed(self.name)} counter"
        for labels, count in counts:
            yield f"{_exposed(self.name)}{_braces(self._label_names, labels)} {count}"


class _Histogram:
    def __init__(self, name: str, limits: Sequence[float], *label_names: str) -> None:
        self.name = name
        self._limits = limits
        self._label_names = label_names
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def add(self, value: float, *labels: str) -> None:
        with self._lock:
            counts = self._counts.setdefault(labels, [0] * (len(self._limits) + 1))
            counts[bisect.bisect_left(self._limits, value)] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + value

    def first(self) -> int:
        return 0  # a distribution has no one number; TensorFlow Serving reports none either

    def lines(self) -> Iterable[str]:
        with self._lock:
            counts = sorted((labels, list(row)) for labels, row in self._counts.items())
            sums = dict(self._sums)
        name = _exposed(self.name)
        if counts:
            yield f"# TYPE {name} histogram"
        for labels, row in counts:
            total = 0
            for limit, count in zip([*map(_short, self._limits), "+Inf"], row, strict=True):
                total += count
                braces = _braces((*self._label_names, "le"), (*labels, limit))
                yield f"{name}_bucket{braces} {total}"
            yield f"{name}_sum{_braces(self._label_names, labels)} {sums[labels]}"
            yield f"{name}_count{_braces(self._label_names, labels)} {total}"


def _exponential(first: float, factor: float, count: int) -> list[float]:
    return [first * factor**step for step in range(count)]


def _exposed(name: str) -> str:
    return name.replace("/", ":")


def _braces(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _short(limit: float) -> str:
    return f"{limit:g}"  # six digits, as TensorFlow Serving prints them
