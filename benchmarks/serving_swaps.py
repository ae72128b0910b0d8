"""Version after version under clients that never pause: nothing fails, and nothing comes too early.

The server runs in this process, so that the moment at which a version's warm-up ends is known. The
clients are threads behind loopback, without retries. Every version answers one class, so that its
replies can be told from those of another, whatever they say of themselves.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
from serving_common import (
    MODEL_NAME,
    TINY_SIZE,
    export_tiny,
    machine,
    noise,
    own_rss_mb,
    write_record,
)
from tensorflow_serving.apis import predict_pb2

from segkit.client.remote import PREDICT
from segkit.client.wire import decode_response, encode_request
from segkit.contract import CLASS_IDS, DEFAULT_SIGNATURE, IMAGE
from segkit.serving.server import ModelServer
from segkit.video.meters import percentiles

ANSWERS = 3  # classes: a version, the one before and the one after can be told apart
HELD_BACK_S = 0.05  # before and after a warm-up: in which no client may be answered by it
PATIENCE_S = 60.0


@dataclass
class Swaps:
    """What was seen. Times are those of time.perf_counter.

    Args:
        warmed_up: Version -> when its warm-up had ended.
        first_reply: Version -> when its first reply came.
        failures: Requests that failed, and replies that were wrong, in words.
        latencies_ms: Of every request.
        rss_mb: This process's memory after each swap: server and clients.
    """

    warmed_up: dict[int, float] = field(default_factory=dict)
    first_reply: dict[int, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)

    @property
    def too_early(self) -> list[int]:
        """The versions that answered before their warm-up had ended."""
        never = float("inf")
        return [n for n, at in self.first_reply.items() if at < self.warmed_up.get(n, never)]


def swap(folder: Path, swaps: int, *, clients: int) -> Swaps:
    """Serves version 1, then the next one, and so on, while clients ask.

    Args:
        folder: An empty folder for the versions.
        swaps: How many versions follow the first.
        clients: Threads that ask at the same time.
    """
    from segkit.serving import server as module

    seen = Swaps()
    replay = module.replay_warmup

    def slow_replay(servable: Any, *args: Any, **kwargs: Any) -> int:
        time.sleep(HELD_BACK_S)
        count = replay(servable, *args, **kwargs)
        assert count > 0, "the version has no warm-up records"
        time.sleep(HELD_BACK_S)
        seen.warmed_up[servable.version] = time.perf_counter()
        return count

    templates = [
        export_tiny(folder / "templates", answer=n, classes=ANSWERS) for n in range(ANSWERS)
    ]
    base_path = folder / MODEL_NAME
    base_path.mkdir()
    _publish(templates, base_path, 1)
    stopping = threading.Event()
    with (
        mock.patch.object(module, "replay_warmup", slow_replay),
        ModelServer.of(MODEL_NAME, base_path, poll_seconds=0.02, max_threads=4 * clients) as server,
    ):
        threads = [
            threading.Thread(target=_ask, args=(server.address, seen, stopping))
            for _ in range(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            for number in range(2, swaps + 2):
                _publish(templates, base_path, number)
                _wait_until(lambda n=number: n in seen.first_reply and _only(server, n))
                shutil.rmtree(base_path / str(number - 1))
                seen.rss_mb.append(own_rss_mb())
        finally:
            stopping.set()
            for thread in threads:
                thread.join()
    return seen


def _publish(templates: list[Path], base_path: Path, number: int) -> None:
    shutil.copytree(templates[number % ANSWERS], base_path / ".incoming")
    os.rename(base_path / ".incoming", base_path / str(number))


def _only(server: ModelServer, number: int) -> bool:
    return server.versions[MODEL_NAME] == [number]


def _wait_until(true: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("the next version did not take over")
        time.sleep(0.01)


def _ask(address: str, seen: Swaps, stopping: threading.Event) -> None:
    request = encode_request(
        {IMAGE: noise(*TINY_SIZE)}, model_name=MODEL_NAME, signature=DEFAULT_SIGNATURE
    )
    # A connection of its own: by default those of a process to one address are shared.
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:
        predict = channel.unary_unary(PREDICT)
        while not stopping.is_set():
            begin = time.perf_counter()
            try:
                reply = predict(request, timeout=PATIENCE_S)
            except grpc.RpcError as err:
                seen.failures.append(f"{err.code().name}: {err.details()}")
                continue
            now = time.perf_counter()
            seen.latencies_ms.append(1e3 * (now - begin))
            version = predict_pb2.PredictResponse.FromString(reply).model_spec.version.value
            answers = set(decode_response(reply)[CLASS_IDS].ravel().tolist())
            if answers != {version % ANSWERS}:
                seen.failures.append(f"version {version} answered {sorted(answers)}")
            # setdefault would keep the first of two threads, not the earlier reply.
            seen.first_reply[version] = min(now, seen.first_reply.get(version, now))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/serving_swaps.json")
    )
    options = parser.parse_args()

    record = {**machine(), "swaps": options.swaps, "clients": options.clients}
    with tempfile.TemporaryDirectory(prefix="segkit-swaps-") as folder:
        begin = time.perf_counter()
        seen = swap(Path(folder), options.swaps, clients=options.clients)
        seconds = time.perf_counter() - begin
    margins = [1e3 * (at - seen.warmed_up[n]) for n, at in seen.first_reply.items()]
    p50, p99 = percentiles(seen.latencies_ms, (50, 99))
    record |= {
        "seconds": seconds,
        "requests": len(seen.latencies_ms),
        "versions_that_answered": len(seen.first_reply),
        "failures": seen.failures,
        "too_early": seen.too_early,
        "least_ms_from_warm_up_to_first_reply": min(margins),
        "latency_ms": {"p50": p50, "p99": p99, "max": max(seen.latencies_ms)},
        "rss_mb": seen.rss_mb,
    }
    print(f"{record['command']}\n{record['machine']}")
    print(
        f"{options.swaps} swaps under {options.clients} clients in {seconds:.0f} s: "
        f"{len(seen.latencies_ms):,} requests to {len(seen.first_reply)} versions, "
        f"{len(seen.failures)} failed, {len(seen.too_early)} versions answered before their "
        f"warm-up had ended (the soonest {min(margins):.1f} ms after it)"
    )
    print("\n".join(seen.failures[:20]))
    print(
        f"latency p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {max(seen.latencies_ms):.0f} ms; "
        f"memory {seen.rss_mb[len(seen.rss_mb) // 10]:.0f} MB after a tenth of the swaps, "
        f"{seen.rss_mb[-1]:.0f} MB after all"
    )
    write_record(record, options.output)
    return int(bool(seen.failures or seen.too_early))


if __name__ == "__main__":
    raise SystemExit(main())
