from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from patience import wait_for

from segkit.engines import Code, StatusError
from segkit.errors import ConfigError
from segkit.serving.batching import Batching, BatchQueue, BatchScheduler
from segkit.serving.metrics import Metrics
from segkit.serving.server_config_pb2 import BatchingParameters

PATIENCE_SECONDS = 30


class Network:
    """Doubles "x"; remembers the batches, and holds them back until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.timeouts: list[float | None] = []
        self.go = threading.Event()
        self.go.set()
        self.error: StatusError | None = None
        self.entered = threading.Semaphore(0)

    def __call__(self, inputs: Mapping[str, Any], timeout_s: float | None) -> dict[str, Any]:
        self.entered.release()
        assert self.go.wait(PATIENCE_SECONDS)
        self.batches.append(inputs["x"][:, 0].tolist())
        self.timeouts.append(timeout_s)
        if self.error is not None:
            raise self.error
        return {"y": inputs["x"] * 2}


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def scheduler(metrics: Metrics, network: Network) -> Iterator[BatchScheduler]:
    scheduler = BatchScheduler(1, metrics)
    yield scheduler
    network.go.set()
    scheduler.stop()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def rows(*values: int, dtype: Any = np.uint8) -> dict[str, Any]:
    return {"x": np.array(values, dtype)[:, None]}


def hold_back(network: Network, queue: BatchQueue, pool: ThreadPoolExecutor) -> Future[Any]:
    """A first request that keeps the only thread busy until `network.go` is set."""
    network.go.clear()
    first = pool.submit(queue.run, rows(100), None)
    assert network.entered.acquire(timeout=PATIENCE_SECONDS)
    return first


def submit_in_order(
    pool: ThreadPoolExecutor, queue: BatchQueue, *requests: dict[str, Any]
) -> list[Future[Any]]:
    futures = []
    for request in requests:
        before = sum(len(batch) for batch in queue._batches)
        futures.append(pool.submit(queue.run, request, None))
        wait_for(lambda before=before: sum(len(x) for x in queue._batches) > before)
    return futures


def test_requests_that_wait_together_are_run_as_one(
    scheduler: BatchScheduler, network: Network, pool: ThreadPoolExecutor
) -> None:
    queue = scheduler.add_queue(network, Batching(max_batch_size=8))
    first = hold_back(network, queue, pool)
    others = submit_in_order(pool, queue, rows(1), rows(2, 3), rows(4))
    network.go.set()
    assert [future.result()["y"][:, 0].tolist() for future in others] == [[2], [4, 6], [8]]
    assert first.result()["y"].item() == 200
    assert network.batches == [[100], [1, 2, 3, 4]]


def test_a_batch_holds_no_more_rows_than_it_may(
    scheduler: BatchScheduler, network: Network, pool: ThreadPoolExecutor
) -> None:
    queue = scheduler.add_queue(network, Batching(max_batch_size=3))
    hold_back(network, queue, pool)
    others = submit_in_order(pool, queue, rows(1, 2), rows(3, 4), rows(5))
    network.go.set()
    assert [len(future.result()["y"]) for future in others] == [2, 2, 1]
    assert network.batches[1:] == [[1, 2], [3, 4, 5]]


def test_a_batch_is_padded_to_the_next_allowed_size_by_its_first_row(
    scheduler: BatchScheduler, network: Network, pool: ThreadPoolExecutor
) -> None:
    queue = scheduler.add_queue(network, Batching(max_batch_size=4, allowed_sizes=(1, 4)))
    hold_back(network, queue, pool)
    others = submit_in_order(pool, queue, rows(7), rows(8))
    network.go.set()
    assert [future.result()["y"][:, 0].tolist() for future in others] == [[14], [16]]
    assert network.batches == [[100], [7, 8, 7, 7]]


def test_the_first_request_of_a_batch_waits_no_longer_than_the_timeout(
    scheduler: BatchScheduler, network: Network
) -> None:
    queue = scheduler.add_queue(network, Batching(max_batch_size=8, timeout_s=0.2))
    begin = time.monotonic()
    queue.run(rows(1), None)
    assert time.monotonic() - begin >= 0.2
    begin = time.monotonic()
    queue.run(rows(*range(8)), None)  # full: nobody to wait for
    assert time.monotonic() - begin < 0.2


def test_a_wrong_request_fails_alone(
    scheduler: BatchScheduler, network: Network, pool: ThreadPoolExecutor
) -> None:
    """What differs in dtype or shape is not put into one batch."""
    queue = scheduler.add_queue(network, Batching(max_batch_size=8))
    hold_back(network, queue, pool)
    wide = {"x": np.array([[5, 5]], np.uint8)}
    others = submit_in_order(pool, queue, rows(1), rows(2, dtype=np.float32), wide, rows(3))
    network.go.set()
    assert [future.result()["y"].dtype.name for future in others] == [
        "uint8",
        "float32",
        "uint8",
        "uint8",
    ]
    assert network.batches == [[100], [1], [2.0], [5], [3]]


def test_a_failed_run_fails_each_of_its_requests(
    scheduler: BatchScheduler, network: Network, pool: ThreadPoolExecutor
) -> None:
    queue = scheduler.add_queue(network, Batching(max_batch_size=8))
    first = hold_back(network, queue, pool)
    others = submit_in_order(pool, queue, rows(1), rows(2))
    network.error = StatusError(Code.INTERNAL, "no")
    network.go.set()
    for future in (first, *others):
        with pytest.raises(StatusError, match="INTERNAL: no"):
            future.result()
    network.error = None
    assert queue.run(rows(1), None)["y"].item() == 2


def test_a_full_queue_refuses_at_once(
    scheduler: BatchScheduler, network: Network, pool: ThreadPoolExecutor
) -> None:
    queue = scheduler.add_queue(network, Batching(max_batch_size=2, max_enqueued_batches=2))
    hold_back(network, queue, pool)
    waiting = submit_in_order(pool, queue, rows(1, 1), rows(2))
    with pytest.raises(StatusError) as caught:
        queue.run(rows(3, 3), None)
    assert caught.value.code is Code.UNAVAILABLE
    assert caught.value.message.startswith(
        "The batch scheduling queue to which this task was submitted is full; "
    )
    waiting += submit_in_order(pool, queue, rows(4))  # there is room in the last batch
    network.go.set()
    assert [len(future.result()["y"]) for future in waiting] == [2, 1, 1]


def test_a_request_larger_than_a_batch_is_refused(
    scheduler: BatchScheduler, network: Network
) -> None:
    queue = scheduler.add_queue(network, Batching(max_batch_size=2))
    with pytest.raises(StatusError) as caught:
        queue.run(rows(1, 2, 3), None)
    assert str(caught.value) == (
        "INVALID_ARGUMENT: Task size 3 is larger than maximum input batch size 2"
    )


def test_a_large_request_is_split_where_that_is_asked_for(
    scheduler: BatchScheduler, network: Network
) -> None:
    batching = Batching(max_batch_size=8, split=True, max_execution_size=2, allowed_sizes=(1, 2))
    queue = scheduler.add_queue(network, batching)
    assert queue.run(rows(1, 2, 3, 4, 5), None)["y"][:, 0].tolist() == [2, 4, 6, 8, 10]
    assert network.batches == [[1, 2], [3, 4], [5]]


def test_an_empty_request_is_run_alone(scheduler: BatchScheduler, network: Network) -> None:
    queue = scheduler.add_queue(network, Batching(max_batch_size=4, allowed_sizes=(2, 4)))
    assert queue.run({"x": np.empty((0, 1), np.uint8)}, None)["y"].shape == (0, 1)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"x": np.uint8(1)},
            "Batching Run() input tensors must have at least one dimension",
        ),
        (
            {"x": np.zeros((2, 1)), "z": np.zeros((3, 1))},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
    ],
)
def test_inputs_without_a_common_batch_are_refused(
    scheduler: BatchScheduler, network: Network, inputs: dict[str, Any], message: str
) -> None:
    queue = scheduler.add_queue(network, Batching())
    with pytest.raises(StatusError) as caught:
        queue.run(inputs, None)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"y": np.uint8(1)}, "Batched output tensor has 0 dimensions"),
        ({"y": np.zeros(7)}, "Batched output tensor's 0th dimension does not equal the sum"),
    ],
)
def test_outputs_without_the_batch_are_an_error(
    scheduler: BatchScheduler, outputs: dict[str, Any], message: str
) -> None:
    queue = scheduler.add_queue(lambda inputs, timeout_s: outputs, Batching())
    with pytest.raises(StatusError) as caught:
        queue.run(rows(1), None)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.message.startswith(message)


def test_a_request_is_given_up_at_its_deadline(
    scheduler: BatchScheduler, network: Network, pool: ThreadPoolExecutor
) -> None:
    queue = scheduler.add_queue(network, Batching(max_batch_size=8))
    hold_back(network, queue, pool)
    with pytest.raises(StatusError) as caught:
        queue.run(rows(1), 0.05)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    network.go.set()
    scheduler.remove_queue(queue)  # waits for what was given up
    assert network.batches == [[100]]  # whose whole batch had expired, and was not run


def test_a_batch_may_take_as_long_as_its_most_patient_request(
    scheduler: BatchScheduler, network: Network, pool: ThreadPoolExecutor
) -> None:
    queue = scheduler.add_queue(network, Batching(max_batch_size=8))
    hold_back(network, queue, pool)
    futures = [pool.submit(queue.run, rows(1), 20.0), pool.submit(queue.run, rows(2), 40.0)]
    wait_for(lambda: sum(len(batch) for batch in queue._batches) == 2)
    network.go.set()
    for future in futures:
        future.result()
    timeout_s = network.timeouts[1]
    assert timeout_s is not None and 30 < timeout_s <= 40
    queue.run(rows(1), None)
    assert network.timeouts[2] is None


def test_queues_take_turns(
    scheduler: BatchScheduler, network: Network, pool: ThreadPoolExecutor
) -> None:
    one, other = (scheduler.add_queue(network, Batching(max_batch_size=1)) for _ in range(2))
    hold_back(network, one, pool)
    waiting = submit_in_order(pool, one, rows(1), rows(2), rows(3))
    waiting += submit_in_order(pool, other, rows(11), rows(12))
    network.go.set()
    for future in waiting:
        future.result()
    assert network.batches == [[100], [11], [1], [12], [2], [3]]


def test_stop_runs_what_waits(metrics: Metrics, network: Network, pool: ThreadPoolExecutor) -> None:
    scheduler = BatchScheduler(2, metrics)
    queue = scheduler.add_queue(network, Batching(max_batch_size=8, timeout_s=60))
    future = pool.submit(queue.run, rows(1), None)
    wait_for(lambda: bool(queue._batches))
    scheduler.stop()
    assert future.result()["y"].item() == 2


def test_queueing_is_counted(scheduler: BatchScheduler, network: Network, metrics: Metrics) -> None:
    queue = scheduler.add_queue(network, Batching(thread_pool_name="seg"))
    queue.run(rows(1), None)
    queue.run(rows(1), None)
    wait_for(lambda: metrics.value("/tensorflow/serving/batching_session/wrapped_run_count") == 2)
    assert (
        ':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name="seg"} 2'
        in metrics.page()
    )


def test_parameters_are_read_with_the_defaults_of_the_server() -> None:
    assert Batching.of(BatchingParameters()) == Batching()
    text = """
        max_batch_size { value: 8 }  batch_timeout_micros { value: 2000 }
        max_enqueued_batches { value: 16 }  num_batch_threads { value: 2 }
        thread_pool_name { value: "seg" }
        allowed_batch_sizes: 1  allowed_batch_sizes: 4
        enable_large_batch_splitting { value: true }  max_execution_batch_size { value: 4 }
    """
    assert Batching.of(text_format.Parse(text, BatchingParameters())) == Batching(
        max_batch_size=8,
        timeout_s=0.002,
        max_enqueued_batches=16,
        num_threads=2,
        thread_pool_name="seg",
        allowed_sizes=(1, 4),
        split=True,
        max_execution_size=4,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_batch_threads { value: 0 }", "1 or more of each"),
        (
            "max_batch_size { value: 4 } allowed_batch_sizes: 4 allowed_batch_sizes: 4",
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "must match max_batch_size; last entry was 4; expected 8",
        ),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 8 "
            "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 4 }",
            "must match max_execution_batch_size; last entry was 8; expected 4",
        ),
        ("pad_variable_length_inputs: true", "images of a version have one size"),
    ],
)
def test_parameters_that_contradict_are_an_error(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Batching.of(text_format.Parse(text, BatchingParameters()))
