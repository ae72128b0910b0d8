"""The embedded server at saturation for half an hour: its memory stays what it was.

Threads of this process ask as fast as they are answered. Resident memory is read every ten seconds;
that at the end (the median of the last minute) is compared with that of minute five.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from serving_common import (
    MODEL_NAME,
    TINY_SIZE,
    ServerProcess,
    export_network,
    export_tiny,
    machine,
    noise,
    write_record,
)

from segkit.client.remote import CHANNEL_OPTIONS, PREDICT
from segkit.client.wire import encode_request
from segkit.contract import DEFAULT_SIGNATURE, IMAGE

TINY = "tiny"
IMAGE_SIZE = (480, 640)
SAMPLE_S = 10.0
SETTLED_S = 300.0  # minute five
MOST_GROWTH = 0.02


@dataclass
class Soak:
    """What was seen.

    Args:
        seconds: When memory was read, from the start.
        rss_mb: The server's resident memory then.
        answered: Requests answered by then.
        failures: Requests that failed, in words.
    """

    seconds: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def memory(self, begin_s: float, end_s: float) -> float:
        """The median between two times, MB."""
        pairs = zip(self.seconds, self.rss_mb, strict=True)
        return float(np.median([mb for at, mb in pairs if begin_s <= at <= end_s]))


def soak(server: ServerProcess, request: bytes, *, seconds: float, threads: int) -> Soak:
    """Saturates a server; samples its memory."""
    seen = Soak()
    counts = [0] * threads
    stopping = threading.Event()

    def ask(index: int) -> None:
        options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.address, options=options) as channel:
            predict = channel.unary_unary(PREDICT)
            while not stopping.is_set():
                try:
                    predict(request, timeout=60)
                    counts[index] += 1
                except grpc.RpcError as err:
                    seen.failures.append(f"{err.code().name}: {err.details()}")

    workers = [threading.Thread(target=ask, args=(index,)) for index in range(threads)]
    begin = time.monotonic()
    for worker in workers:
        worker.start()
    try:
        while time.monotonic() < begin + seconds and server.is_alive:
            time.sleep(SAMPLE_S)
            seen.seconds.append(time.monotonic() - begin)
            seen.rss_mb.append(server.rss_mb)
            seen.answered.append(sum(counts))
    finally:
        stopping.set()
        for worker in workers:
            worker.join()
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--network", default="ddrnet23_slim", help=f"or {TINY}")
    parser.add_argument("--engine", default="openvino:float32")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("benchmarks/results/serving_soak.json"),
        help="the figures as JSON; the plot lies beside it as PNG",
    )
    options = parser.parse_args()
    if 60 * options.minutes <= SETTLED_S:
        parser.error(f"--minutes is {options.minutes:g}, not more than {SETTLED_S / 60:g}")

    record = {**machine(), "network": options.network, "engine": options.engine}
    size = TINY_SIZE if options.network == TINY else IMAGE_SIZE
    request = encode_request(
        {IMAGE: noise(*size)}, model_name=MODEL_NAME, signature=DEFAULT_SIGNATURE
    )
    with tempfile.TemporaryDirectory(prefix="segkit-soak-") as folder:
        if options.network == TINY:
            export_tiny(Path(folder), engines=(options.engine,))
        else:
            export_network(options.network, Path(folder), size, (options.engine,))
        with ServerProcess(Path(folder), "--engine", options.engine) as server:
            print(f"saturating {server.address} for {options.minutes:g} minutes", flush=True)
            seen = soak(server, request, seconds=60 * options.minutes, threads=options.threads)
            alive = server.is_alive
    settled = seen.memory(SETTLED_S - 30, SETTLED_S + 30)
    end = seen.memory(seen.seconds[-1] - 60, seen.seconds[-1])
    record |= {
        "alive": alive,
        "threads": options.threads,
        "answered": seen.answered[-1],
        "failures": seen.failures,
        "settled_mb": settled,
        "end_mb": end,
        "growth": end / settled - 1,
        "samples": {"seconds": seen.seconds, "rss_mb": seen.rss_mb, "answered": seen.answered},
    }
    print(f"{record['command']}\n{record['machine']}")
    print(
        f"{seen.answered[-1]:,} requests in {seen.seconds[-1] / 60:.0f} minutes "
        f"({seen.answered[-1] / seen.seconds[-1]:.1f}/s), {len(seen.failures)} failed; resident "
        f"memory {settled:.0f} MB in minute five, {end:.0f} MB at the end "
        f"({end / settled - 1:+.2%})"
    )
    write_record(record, options.output)
    plot(record, options.output.with_suffix(".png"))
    return int(bool(seen.failures) or not alive or end / settled - 1 > MOST_GROWTH)


def plot(record: dict[str, Any], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    samples, settled = record["samples"], record["settled_mb"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axhspan(
        settled * (1 - MOST_GROWTH), settled * (1 + MOST_GROWTH), color="#e8f0fe", label="±2 %"
    )
    axes.axvline(SETTLED_S / 60, color="#9aa0a6", linewidth=1, linestyle=":")
    axes.plot(np.divide(samples["seconds"], 60), samples["rss_mb"], color="#1a73e8")
    axes.set_ylim(0, 1.25 * max(samples["rss_mb"]))
    axes.set_xlabel("minutes at saturation")
    axes.set_ylabel("resident memory, MB")
    axes.set_title(
        f"{record['network']}, {record['engine']}, {record['threads']} clients: "
        f"{record['answered']:,} requests, {record['growth']:+.2%} from minute five to the end",
        size=9,
        loc="left",
    )
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)
    print(f"wrote {path}")


if __name__ == "__main__":
    raise SystemExit(main())
