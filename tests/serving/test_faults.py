"""Short versions of benchmarks/serving_*.py, and how a server ends and sheds load.

Each runs `python -m segkit serve`, as users do, except where it must see into the server.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from malformed_requests import KINDS, make_case
from serving_common import MODEL_NAME, TINY_SIZE, ServerProcess, noise
from serving_kills import kill_repeatedly
from serving_malformed import good_answer, storm
from serving_swaps import swap

from segkit.client.remote import PREDICT
from segkit.client.wire import decode_response, encode_request
from segkit.contract import CLASS_IDS, DEFAULT_SIGNATURE, IMAGE
from segkit.serving.batching import Batching
from segkit.serving.servable import Servable
from segkit.serving.server import ModelServer

EXHAUSTED, UNAVAILABLE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def server(tiny_export: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tiny_export, rest=True) as server:
        yield server


def predict_bytes(rows: int = 1) -> bytes:
    images = np.repeat(noise(*TINY_SIZE), rows, axis=0)
    return encode_request({IMAGE: images}, model_name=MODEL_NAME, signature=DEFAULT_SIGNATURE)


def is_open(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


class Caller:
    """Sends Predict on a channel of its own; what fails gives its status."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(
            address, [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        )
        self.predict = self._channel.unary_unary(PREDICT)

    def status(self, request: bytes) -> tuple[grpc.StatusCode, str, float]:
        """Code, details and the seconds until they came."""
        begin = time.perf_counter()
        code, details = grpc.StatusCode.OK, ""
        try:
            self.predict(request, timeout=PATIENCE_S)
        except grpc.RpcError as err:
            code, details = err.code(), err.details()
        return code, details, time.perf_counter() - begin

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def held_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Runs wait until the test ends; gives what waits until so many of them have begun."""
    release, started = threading.Event(), threading.Semaphore(0)
    run = Servable.run

    def held(self: Servable, *args: Any, **kwargs: Any) -> Any:
        started.release()
        assert release.wait(PATIENCE_S)
        return run(self, *args, **kwargs)

    def wait_for(runs: int) -> None:
        for _ in range(runs):
            assert started.acquire(timeout=PATIENCE_S)

    monkeypatch.setattr(Servable, "run", held)
    wait_for.release = release.set  # type: ignore[attr-defined]
    yield wait_for
    release.set()


def test_malformed_requests_get_their_status_and_do_no_harm(server: ServerProcess) -> None:
    outcome = storm(server, 6 * len(KINDS), seed=11, parts=2)
    assert outcome.violations == []
    assert set(outcome.statuses) == set(KINDS)
    assert server.is_alive
    assert not [line for line in server.lines if line.startswith("Traceback")]
    assert server.peak_rss_mb < 2000  # a claimed gigabyte that was allocated would show


def test_a_seed_gives_the_same_requests_again() -> None:
    for number in range(len(KINDS)):
        assert make_case(number, 5) == make_case(number, 5)


@pytest.mark.slow
def test_swaps_fail_no_request_and_nothing_answers_before_its_warm_up(tmp_path: Path) -> None:
    seen = swap(tmp_path, 5, clients=4)
    assert seen.failures == []
    assert seen.too_early == []
    assert sorted(seen.first_reply) == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_killed_and_started_again_no_frame_is_lost(tiny_export: Path) -> None:
    (client,) = kill_repeatedly(tiny_export, 2, clients=1, seed=1)
    assert client.errors == []
    assert client.received == client.sent > 0
    assert client.wrong == 0
    assert client.retries > 0


def test_what_is_in_flight_when_the_server_stops_is_answered(
    tiny_export: Path, held_engine: Any
) -> None:
    server = ModelServer.of(MODEL_NAME, tiny_export, warmup=False)
    server.start()
    caller = Caller(server.address)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(caller.status, predict_bytes())
        held_engine(1)
        stopping = pool.submit(server.stop)
        host, _, port = server.address.rpartition(":")
        while is_open(host, int(port)):
            time.sleep(0.01)
        late = Caller(server.address)
        assert late.status(predict_bytes())[0] == UNAVAILABLE
        assert not first.done() and not stopping.done()
        held_engine.release()
        assert first.result()[0] == grpc.StatusCode.OK
        stopping.result()
    caller.close()
    late.close()


def test_more_predictions_than_threads_are_refused_at_once(
    tiny_export: Path, held_engine: Any
) -> None:
    with ModelServer.of(MODEL_NAME, tiny_export, warmup=False, max_threads=2) as server:
        caller = Caller(server.address)
        with ThreadPoolExecutor(2) as pool:
            busy = [pool.submit(caller.status, predict_bytes()) for _ in range(2)]
            held_engine(2)
            for _ in range(50):
                code, details, seconds = caller.status(predict_bytes())
                assert (code, details) == (EXHAUSTED, "Server Threadpool Exhausted")
                assert seconds < 5
            held_engine.release()
            assert [each.result()[0] for each in busy] == [grpc.StatusCode.OK] * 2
        assert caller.status(predict_bytes())[0] == grpc.StatusCode.OK
        caller.close()


def test_a_full_batching_queue_is_unavailable(
    tiny_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, started = threading.Event(), threading.Event()
    run_batch = Servable._run_batch

    def held(self: Servable, *args: Any) -> Any:
        started.set()
        assert release.wait(PATIENCE_S)
        return run_batch(self, *args)

    monkeypatch.setattr(Servable, "_run_batch", held)
    batching = Batching(max_batch_size=1, max_enqueued_batches=1, num_threads=1)
    with ModelServer.of(
        MODEL_NAME, tiny_export, warmup=False, batching=batching, max_threads=8
    ) as server:
        caller = Caller(server.address)
        with ThreadPoolExecutor(3) as pool:
            running = pool.submit(caller.status, predict_bytes())
            assert started.wait(PATIENCE_S)
            others = [pool.submit(caller.status, predict_bytes()) for _ in range(2)]
            # One of the two waits in the queue, the other finds it full.
            while not any(other.done() for other in others):
                time.sleep(0.01)
            release.set()
            assert running.result()[0] == grpc.StatusCode.OK
            codes = sorted(other.result()[0].name for other in others)
            assert codes == ["OK", "UNAVAILABLE"]
            (details,) = [text for code, text, _ in (o.result() for o in others) if text]
            assert details.startswith("The batch scheduling queue to which this task was submitted")
        caller.close()


def test_a_flood_is_shed_and_memory_stays_bounded(server: ServerProcess) -> None:
    expected = good_answer(server.address)
    before = server.peak_rss_mb
    callers = [Caller(server.address) for _ in range(8)]
    body = predict_bytes(20)
    flood = [
        caller.predict.future(body, timeout=PATIENCE_S) for _ in range(40) for caller in callers
    ]
    codes = {call.code() for call in flood}
    for caller in callers:
        caller.close()
    assert codes == {grpc.StatusCode.OK, EXHAUSTED}
    assert server.peak_rss_mb - before < 600
    np.testing.assert_array_equal(good_answer(server.address), expected)


def test_sigterm_answers_what_is_in_flight_and_refuses_what_is_new(server: ServerProcess) -> None:
    """The last one: it ends the server."""
    caller = Caller(server.address)
    in_flight = [caller.predict.future(predict_bytes(600), timeout=PATIENCE_S) for _ in range(2)]
    time.sleep(0.3)  # they have reached the server, and take a second
    codes = []
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(server.stop)
        while not stopped.done():
            late = Caller(server.address)
            codes.append(late.status(predict_bytes())[0])
            late.close()
        assert stopped.result() == 0
    for call in in_flight:
        assert decode_response(call.result())[CLASS_IDS].shape == (600, *TINY_SIZE)
    caller.close()
    assert codes[-1] == UNAVAILABLE
    assert set(codes) <= {grpc.StatusCode.OK, UNAVAILABLE}
    assert "stopped" in server.lines
