"""Malformed requests at the embedded server: it lives, keeps its memory, and answers the next one.

Every request comes from a generator with a seed: request N of a seed is always the same. Each kind
has the statuses that TensorFlow Serving gives it; any other one fails the run. Resident memory
after the last thousand is compared with that after the first, in which every kind has been seen.
"""

from __future__ import annotations

import argparse
import collections
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from malformed_requests import KINDS, Case, make_case
from malformed_send import Doors
from serving_common import (
    MODEL_NAME,
    TINY_SIZE,
    ServerProcess,
    export_tiny,
    machine,
    noise,
    write_record,
)

from segkit.client.remote import PREDICT
from segkit.client.wire import decode_response, encode_request
from segkit.contract import CLASS_IDS, DEFAULT_SIGNATURE, IMAGE

MOST_GROWTH = 0.05
SETTLE_S = 1.0  # in which the server sees that the last connections are closed


@dataclass
class Outcome:
    """What came of the requests.

    Args:
        statuses: Kind -> status -> how many.
        violations: Those whose status is none of their kind's, in words.
        rss_mb: The server's resident memory after each part.
    """

    statuses: dict[str, collections.Counter[str]] = field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    violations: list[str] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """How much larger the memory was after the last part than after the first."""
        return self.rss_mb[-1] / self.rss_mb[0] - 1


def good_answer(address: str) -> np.ndarray:
    """What the model says of the one good image."""
    request = encode_request(
        {IMAGE: noise(*TINY_SIZE)}, model_name=MODEL_NAME, signature=DEFAULT_SIGNATURE
    )
    with grpc.insecure_channel(address) as channel:
        return decode_response(channel.unary_unary(PREDICT)(request, timeout=60))[CLASS_IDS]


def storm(
    server: ServerProcess, count: int, *, seed: int, threads: int = 4, parts: int = 10
) -> Outcome:
    """Sends so many malformed requests, and a good one after each part.

    Raises:
        AssertionError: A good request was answered wrongly.
    """
    outcome = Outcome()
    expected = good_answer(server.address)
    lock = threading.Lock()
    with Doors(server.address, server.rest_port) as doors, ThreadPoolExecutor(threads) as pool:

        def send(number: int) -> None:
            case = make_case(number, seed)
            status = doors.send(case)
            with lock:
                outcome.statuses[case.kind][status] += 1
                if status not in case.allowed:
                    outcome.violations.append(_words(number, case, status))

        for numbers in np.array_split(np.arange(count), parts):
            for _ in pool.map(send, numbers.tolist()):
                pass
            doors.close_silent()
            time.sleep(SETTLE_S)
            np.testing.assert_array_equal(good_answer(server.address), expected)
            outcome.rss_mb.append(server.rss_mb)
    return outcome


def _words(number: int, case: Case, status: str) -> str:
    return f"request {number} ({case.kind}): {status}, not one of {', '.join(sorted(case.allowed))}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--engine", default="tensorflow:float32")
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/serving_malformed.json")
    )
    options = parser.parse_args()

    record = {**machine(), "engine": options.engine, "requests": options.requests}
    with tempfile.TemporaryDirectory(prefix="segkit-malformed-") as folder:
        export_tiny(Path(folder), engines=(options.engine,))
        with ServerProcess(Path(folder), "--engine", options.engine, rest=True) as server:
            begin = time.perf_counter()
            outcome = storm(server, options.requests, seed=options.seed)
            seconds = time.perf_counter() - begin
            record["alive"] = server.is_alive
            record["peak_rss_mb"] = server.peak_rss_mb
        tracebacks = [line for line in server.lines if line.startswith("Traceback")]
    record |= {
        "kinds": len(KINDS),
        "seconds": seconds,
        "rss_mb": outcome.rss_mb,
        "growth": outcome.growth,
        "violations": outcome.violations,
        "tracebacks": len(tracebacks),
        "statuses": {kind: dict(counts) for kind, counts in sorted(outcome.statuses.items())},
    }
    print(f"{record['command']}\n{record['machine']}")
    for kind, counts in sorted(outcome.statuses.items()):
        print(f"{kind:<28}" + ", ".join(f"{status} {n}" for status, n in counts.most_common()))
    print("\n".join(outcome.violations[:20]))
    print(
        f"{options.requests} requests in {seconds:.0f} s, {len(outcome.violations)} with another "
        f"status, {len(tracebacks)} tracebacks; resident memory {outcome.rss_mb[0]:.0f} MB after "
        f"the first part, {outcome.rss_mb[-1]:.0f} MB at the end ({outcome.growth:+.1%})"
    )
    write_record(record, options.output)
    return int(
        bool(outcome.violations or tracebacks)
        or outcome.growth > MOST_GROWTH
        or not record["alive"]
    )


if __name__ == "__main__":
    raise SystemExit(main())
