"""Dynamic batching: requests that wait at the same time are run as one.

As TensorFlow Serving's BatchingSession over a shared scheduler (batching/README.md there): one
queue for each signature and set of outputs of a version, threads shared by all queues, batches
padded to the next allowed size by copies of a row. A queue that is full refuses at once.

Requests of different dtype or shape never share a batch, so that one that is wrong fails alone.
(There, images of two sizes in one batch fail each other.)
"""

from __future__ import annotations

import bisect
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from segkit.engines import Code, StatusError
from segkit.errors import ConfigError
from segkit.serving.metrics import Metrics

__all__ = ["BatchQueue", "BatchScheduler", "Batching"]

Array = npt.NDArray[Any]
Tensors = dict[str, Array]
# Runs one batch: inputs, and seconds that it may take.
Run = Callable[[Mapping[str, Array], float | None], Tensors]


@dataclass(frozen=True, kw_only=True)
class Batching:
    """BatchingParameters with the defaults of TensorFlow Serving filled in.

    Args:
        max_batch_size: Rows of a request at most, and of a batch.
        timeout_s: How long the first request of a batch waits for others.
        max_enqueued_batches: Batches that wait in one queue at most.
        num_threads: Batches that run at the same time.
        thread_pool_name: The label of its metrics.
        allowed_sizes: Rows that a batch is padded to, ascending; empty for any.
        split: Whether a request is run in parts.
        max_execution_size: Rows of a part; as many as max_batch_size unless `split`.
    """

    max_batch_size: int = 1000
    timeout_s: float = 0.0
    max_enqueued_batches: int = 10
    num_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = "batch_threads"
    allowed_sizes: tuple[int, ...] = ()
    split: bool = False
    max_execution_size: int = 0

    def __post_init__(self) -> None:
        if min(self.max_batch_size, self.max_enqueued_batches, self.num_threads) < 1:
            raise ConfigError(
                "batching is asked for with "
                f"max_batch_size {self.max_batch_size}, max_enqueued_batches "
                f"{self.max_enqueued_batches}, num_batch_threads {self.num_threads}",
                expected="1 or more of each",
            )
        if any(a >= b for a, b in zip(self.allowed_sizes, self.allowed_sizes[1:], strict=False)):
            raise ConfigError(
                "allowed_batch_sizes entries must be monotonically increasing; they are "
                f"{', '.join(map(str, self.allowed_sizes))}",
                expected="such as 1, 2, 4, 8",
            )
        name = "max_execution_batch_size" if self.split else "max_batch_size"
        if self.allowed_sizes and self.allowed_sizes[-1] != self.run_size:
            raise ConfigError(
                f"Last entry in allowed_batch_sizes must match {name}; last entry was "
                f"{self.allowed_sizes[-1]}; expected {self.run_size}",
                expected="batches that are never larger than the largest allowed one",
                next_step="python -m segkit serve-config writes a file that fits the model",
            )

    @classmethod
    def of(cls, parameters: Any) -> Batching:
        """Reads a tensorflow.serving.BatchingParameters.

        Raises:
            ConfigError: The values contradict one another.
        """
        names = {
            "max_batch_size": "max_batch_size",
            "max_enqueued_batches": "max_enqueued_batches",
            "num_batch_threads": "num_threads",
            "thread_pool_name": "thread_pool_name",
            "enable_large_batch_splitting": "split",
            "max_execution_batch_size": "max_execution_size",
        }
        given: dict[str, Any] = {
            ours: getattr(parameters, theirs).value
            for theirs, ours in names.items()
            if parameters.HasField(theirs)
        }
        if parameters.HasField("batch_timeout_micros"):
            given["timeout_s"] = parameters.batch_timeout_micros.value / 1e6
        if parameters.pad_variable_length_inputs:
            raise ConfigError(
                "pad_variable_length_inputs is set",
                expected="it unset: images of a version have one size",
            )
        return cls(allowed_sizes=tuple(parameters.allowed_batch_sizes), **given)

    @property
    def run_size(self) -> int:
        """Rows of what is run at most."""
        return (self.max_execution_size if self.split else 0) or self.max_batch_size

    def padded(self, rows: int) -> int:
        """The allowed size that so many rows are padded to."""
        index = bisect.bisect_left(self.allowed_sizes, rows)
        return self.allowed_sizes[index] if index < len(self.allowed_sizes) else rows


@dataclass
class _Task:
    inputs: Mapping[str, Array]
    rows: int
    deadline: float | None  # time.monotonic()
    kind: tuple[Any, ...]  # only tasks of one kind make a batch
    enqueued: float = field(default_factory=time.monotonic)
    result: Future[Tensors] = field(default_factory=Future)


class BatchQueue:
    """The requests of one signature that wait, grouped in batches. Made by `BatchScheduler`."""

    def __init__(self, run: Run, batching: Batching, scheduler: BatchScheduler) -> None:
        self._run = run
        self._batching = batching
        self._scheduler = scheduler
        self._batches: deque[list[_Task]] = deque()  # guarded by the scheduler's condition
        self._running = 0  # likewise

    def run(self, inputs: Mapping[str, Array], timeout_s: float | None) -> Tensors:
        """Waits for a batch to be run that these inputs are a part of.

        Args:
            inputs: Each with the batch first, of equal length.
            timeout_s: Seconds until the request is given up; None waits for ever.

        Returns:
            The outputs of these rows.

        Raises:
            StatusError: The inputs cannot be batched, the queue is full, or the run failed.
        """
        rows = _rows(inputs)
        if not rows:
            return self._run(inputs, timeout_s)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        most, limit = self._batching.max_batch_size, self._batching.run_size
        if rows > most:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Task size {rows} is larger than maximum input batch size {most}",
            )
        kind = tuple(sorted((name, str(x.dtype), x.shape[1:]) for name, x in inputs.items()))
        if rows <= limit:
            tasks = [_Task(inputs, rows, deadline, kind)]
        else:
            tasks = [
                _Task(
                    {name: value[start : start + limit] for name, value in inputs.items()},
                    min(limit, rows - start),
                    deadline,
                    kind,
                )
                for start in range(0, rows, limit)
            ]
        self._scheduler.enqueue(self, tasks)
        parts = [self._wait(task) for task in tasks]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _wait(self, task: _Task) -> Tensors:
        try:
            left = None if task.deadline is None else max(0.0, task.deadline - time.monotonic())
            return task.result.result(left)
        except TimeoutError as err:
            raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded") from err

    # What follows is the scheduler's, under its condition; `execute` is not.

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._batches and not self._running

    def add(self, tasks: Sequence[_Task]) -> None:
        """Puts tasks into the last batch that has room, or into new ones.

        Raises:
            StatusError: There is no room for all of them; none is added then.
        """
        limit, most = self._batching.run_size, self._batching.max_enqueued_batches
        batches = [list(batch) for batch in list(self._batches)[-1:]]
        fresh = 0
        for task in tasks:
            last = batches[-1] if batches else []
            full = sum(other.rows for other in last) + task.rows > limit
            if not last or full or last[0].kind != task.kind:
                batches.append([])
                fresh += 1
            batches[-1].append(task)
        if len(self._batches) + fresh > most:
            raise StatusError(
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{len(self._batches)} batches enqueued and max_enqueued_batches is {most}",
            )
        if self._batches:
            self._batches.pop()
        self._batches.extend(batches)

    def seconds_until_ready(self, now: float) -> float | None:
        """0 if its first batch can be run, None if there is none."""
        if not self._batches:
            return None
        first = self._batches[0]
        if len(self._batches) > 1 or sum(task.rows for task in first) >= self._batching.run_size:
            return 0.0
        return max(0.0, first[0].enqueued + self._batching.timeout_s - now)

    def pop(self) -> list[_Task]:
        """Its first batch, which counts as running until `done`."""
        self._running += 1
        return self._batches.popleft()

    def done(self) -> None:
        """A batch that was popped has been run."""
        self._running -= 1

    def execute(self, batch: Sequence[_Task], metrics: Metrics) -> None:
        """Runs a batch and hands every task its rows, or its error."""
        now = time.monotonic()
        for task in batch:
            metrics.queued(self._batching.thread_pool_name, now - task.enqueued)
        try:
            parts = self._execute(batch, now)
        except Exception as err:  # each request raises it where it waits
            for task in batch:
                task.result.set_exception(err)
            return
        metrics.batched()
        for task, part in zip(batch, parts, strict=True):
            task.result.set_result(part)

    def _execute(self, batch: Sequence[_Task], now: float) -> list[Tensors]:
        deadlines = [task.deadline for task in batch if task.deadline is not None]
        everyone_has_one = len(deadlines) == len(batch)
        if everyone_has_one and max(deadlines) <= now:
            raise StatusError(
                Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue"
            )
        # The run may take as long as the most patient of its requests.
        timeout_s = max(deadlines) - now if everyone_has_one else None
        rows = sum(task.rows for task in batch)
        inputs = {
            name: _merged([task.inputs[name] for task in batch], self._batching.padded(rows))
            for name in batch[0].inputs
        }
        outputs = self._run(inputs, timeout_s)
        for value in outputs.values():
            if not value.ndim:
                raise StatusError(
                    Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions"
                )
            if len(value) != self._batching.padded(rows):
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                    "dimension sizes of the input tensors",
                )
        ends = np.cumsum([task.rows for task in batch])
        return [
            {name: value[end - task.rows : end] for name, value in outputs.items()}
            for task, end in zip(batch, ends, strict=True)
        ]


class BatchScheduler:
    """The threads that run the batches of all queues, in turns.

    Args:
        num_threads: Batches that run at the same time.
        metrics: What is counted.
    """

    def __init__(self, num_threads: int, metrics: Metrics) -> None:
        self._metrics = metrics
        self._queues: deque[BatchQueue] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{index}", daemon=True)
            for index in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def add_queue(self, run: Run, batching: Batching) -> BatchQueue:
        """A new queue, for one signature of one version."""
        queue = BatchQueue(run, batching, self)
        with self._changed:
            self._queues.append(queue)
        return queue

    def remove_queue(self, queue: BatchQueue) -> None:
        """Forgets a queue, after what waits in it has been run: requests that were given up."""
        with self._changed:
            self._changed.wait_for(lambda: queue.idle)
            self._queues.remove(queue)

    def enqueue(self, queue: BatchQueue, tasks: Sequence[_Task]) -> None:
        """Adds tasks to a queue.

        Raises:
            StatusError: It is full.
        """
        with self._changed:
            queue.add(tasks)
            self._changed.notify(len(tasks))

    def stop(self) -> None:
        """Ends the threads once every batch that waits has been run."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                taken = self._take()
                while taken is None:
                    if self._stopping and not any(
                        queue.seconds_until_ready(0.0) is not None for queue in self._queues
                    ):
                        return
                    self._changed.wait(self._seconds_until_ready())
                    taken = self._take()
                queue, batch = taken
            queue.execute(batch, self._metrics)
            with self._changed:
                queue.done()
                self._changed.notify_all()

    def _take(self) -> tuple[BatchQueue, list[_Task]] | None:
        now = time.monotonic()
        for _ in range(len(self._queues)):
            queue = self._queues[0]
            self._queues.rotate(-1)  # whoever is served goes to the end
            left = queue.seconds_until_ready(now)
            if left is not None and (left == 0.0 or self._stopping):
                return queue, queue.pop()
        return None

    def _seconds_until_ready(self) -> float | None:
        now = time.monotonic()
        left = [queue.seconds_until_ready(now) for queue in self._queues]
        return min((seconds for seconds in left if seconds is not None), default=None)


def _rows(inputs: Mapping[str, Array]) -> int:
    rows = set()
    for value in inputs.values():
        if not np.ndim(value):
            raise StatusError(
                Code.INVALID_ARGUMENT,
                "Batching Run() input tensors must have at least one dimension",
            )
        rows.add(len(value))
    if len(rows) != 1:
        raise StatusError(
            Code.INVALID_ARGUMENT,
            "Batching Run() input tensors must have equal 0th-dimension size",
        )
    return rows.pop()


def _merged(parts: Sequence[Array], rows: int) -> Array:
    """The parts one after another, then copies of the first row up to so many rows."""
    missing = rows - sum(map(len, parts))
    if not missing and len(parts) == 1:
        return parts[0]
    return np.concatenate([*parts, np.repeat(parts[0][:1], missing, axis=0)])
