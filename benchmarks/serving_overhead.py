"""What the embedded server costs: Predict over loopback beside its engine in this process.

Both run the same version by the same engine, taking turns: passes by one client, then windows of a
few seconds in which several threads ask as fast as they are answered. The server is a process of
its own (`python -m segkit serve`); its clients are threads of this one, which send the same bytes
again and again: what a client spends on encoding and decoding is in client_cost.py.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from serving_common import (
    MODEL_NAME,
    ServerProcess,
    export_network,
    machine,
    noise,
    write_record,
)
from turns import take_turns

from segkit.client.remote import CHANNEL_OPTIONS, PREDICT
from segkit.client.wire import decode_response, encode_request
from segkit.contract import CLASS_IDS, DEFAULT_SIGNATURE, IMAGE
from segkit.engines import Engine, open_engine
from segkit.serving.memory import settle_memory
from segkit.video.meters import percentiles

MOST_OVERHEAD_MS = 2.0
LEAST_THROUGHPUT = 0.95  # of the engine's own
WARM_UP = 10

Ways = dict[str, Callable[[], object]]


def count_passes(way: Callable[[], object], threads: int, seconds: float) -> float:
    """Passes a second of so many threads that never pause."""
    counts = [0] * threads
    end = time.perf_counter() + seconds

    def run(index: int) -> None:
        while time.perf_counter() < end:
            way()
            counts[index] += 1

    workers = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - start)


def measure_throughput(
    ways: Ways, *, threads: int, windows: int, seconds: float
) -> dict[str, list[float]]:
    """Passes a second in every window; the ways take turns, and each is first every other time."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for window in range(-1, windows):
        for name in order:
            rate = count_passes(ways[name], threads, seconds)
            if window >= 0:
                rates[name].append(rate)
        order.append(order.pop(0))
    return rates


def measure(engine: Engine, address: str, options: argparse.Namespace) -> dict[str, Any]:
    image = noise(*options.image_size)
    request = encode_request({IMAGE: image}, model_name=MODEL_NAME, signature=DEFAULT_SIGNATURE)
    with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        call = channel.unary_unary(PREDICT)
        ways: Ways = {
            "engine": lambda: engine.run(DEFAULT_SIGNATURE, {IMAGE: image}),
            "server": lambda: call(request, timeout=60),
        }
        served = decode_response(call(request, timeout=60))[CLASS_IDS]
        own = engine.run(DEFAULT_SIGNATURE, {IMAGE: image})[CLASS_IDS]
        np.testing.assert_array_equal(served, own)
        passes = take_turns(ways, options.rounds, warm_up=WARM_UP)
        rates = measure_throughput(
            ways, threads=options.threads, windows=options.windows, seconds=options.seconds
        )
    p50, p99 = (
        dict(zip(passes, column, strict=True))
        for column in zip(
            *(percentiles(values, (50, 99)) for values in passes.values()), strict=True
        )
    )
    differences = np.subtract(passes["server"], passes["engine"])
    return {
        "p50_ms": p50,
        "p99_ms": p99,
        "overhead_ms": p50["server"] - p50["engine"],
        "overhead_within_rounds_ms": float(np.median(differences)),
        "per_second": {name: float(np.median(values)) for name, values in rates.items()},
        "throughput": float(np.median(np.divide(rates["server"], rates["engine"]))),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="ddrnet23_slim")
    parser.add_argument("--image_size", type=int, nargs=2, default=(480, 640))
    parser.add_argument("--engines", nargs="+", default=["openvino:float32", "tensorflow:float32"])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a window")
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/serving_overhead.json")
    )
    options = parser.parse_args()

    settle_memory()  # as the server does; else an engine is slower here than there
    record = {**machine(), "network": options.network, "image_size": list(options.image_size)}
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="segkit-overhead-") as folder:
        print(f"exporting {options.network} to a temporary folder", flush=True)
        version = export_network(
            options.network, Path(folder), tuple(options.image_size), options.engines
        )
        for name in options.engines:
            print(f"measuring {name}", flush=True)
            engine = open_engine(version, name)
            with ServerProcess(Path(folder), "--engine", name) as server:
                figures[name] = measure(engine, server.address, options)
            engine.close()
    record = {**record, "rounds": options.rounds, "threads": options.threads, "engines": figures}
    report(record, figures)
    write_record(record, options.output)
    within = [
        f["overhead_ms"] < MOST_OVERHEAD_MS and f["throughput"] >= LEAST_THROUGHPUT
        for f in figures.values()
    ]
    return int(not all(within))


def report(record: dict[str, Any], figures: dict[str, dict[str, Any]]) -> None:
    print(f"{record['command']}\n{record['machine']}, load {record['load_average'][0]}")
    print(f"{'':<20}{'engine p50':>12}{'Predict p50':>13}{'overhead':>11}", end="")
    print(f"{'engine/s':>11}{'server/s':>10}{'ratio':>8}")
    for name, f in figures.items():
        p50, rate = f["p50_ms"], f["per_second"]
        print(f"{name:<20}{p50['engine']:>9.2f} ms{p50['server']:>10.2f} ms", end="")
        print(f"{f['overhead_ms']:>8.2f} ms{rate['engine']:>11.2f}{rate['server']:>10.2f}", end="")
        print(f"{f['throughput']:>7.1%}")


if __name__ == "__main__":
    raise SystemExit(main())
