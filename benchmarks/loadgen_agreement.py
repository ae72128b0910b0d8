"""segkit's load generator beside MLPerf's LoadGen: the same server, SingleStream, p90.

SingleStream sends the next query when the last is answered: a closed loop of one. The two take
turns on one segmenter, by default a simulated one, whose service time and way are set, so that the
machine matters little; --server asks a real one. Exits 1 where the p90 differs by more than 5 %:
the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from segkit.client import RemoteSegmenter, Segmenter
from segkit.client.load import Plan, closed_loop

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "data"))
from simulated_server import SimulatedSegmenter

try:
    import mlperf_loadgen as loadgen
except ImportError:
    sys.exit("mlperf_loadgen is missing: pip install 'segkit[loadgen]'")

TOLERANCE = 0.05
MIN_QUERIES = 64  # of LoadGen, for a p90
P90_NS = re.compile(r"90(?:\.0)?th percentile latency \(ns\) *: *(\d+)", re.IGNORECASE)


class UnderTest:
    """A segmenter as LoadGen wants one: queries in, completions from any thread."""

    def __init__(self, segmenter: Segmenter, image: np.ndarray) -> None:
        self._segmenter, self._image = segmenter, image
        self.errors: list[BaseException] = []
        self._reply = np.zeros(1, np.uint8)

    def issue(self, samples: list[Any]) -> None:
        for sample in samples:
            future = self._segmenter.submit(self._image)
            future.add_done_callback(lambda done, id_=sample.id: self._complete(id_, done))

    def _complete(self, id_: int, done: Any) -> None:
        error = done.exception()
        if error is not None:  # LoadGen knows no failures; the figures would be worthless
            self.errors.append(error)
        response = loadgen.QuerySampleResponse(id_, self._reply.ctypes.data, self._reply.nbytes)
        loadgen.QuerySamplesComplete([response])


def loadgen_p90_ms(segmenter: Segmenter, image: np.ndarray, seconds: float) -> float:
    """What LoadGen's summary says of a SingleStream run."""
    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.SingleStream
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = round(1e3 * seconds)
    settings.min_query_count = MIN_QUERIES
    under_test = UnderTest(segmenter, image)
    with tempfile.TemporaryDirectory(prefix="segkit-loadgen-") as folder:
        log = loadgen.LogSettings()
        log.log_output.outdir = folder
        log.log_output.copy_summary_to_stdout = False
        sut = loadgen.ConstructSUT(under_test.issue, lambda: None)
        qsl = loadgen.ConstructQSL(1, 1, lambda samples: None, lambda samples: None)
        loadgen.StartTestWithLogSettings(sut, qsl, settings, log)
        loadgen.DestroyQSL(qsl)
        loadgen.DestroySUT(sut)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text(encoding="utf-8")
    if under_test.errors:
        raise under_test.errors[0]
    found = P90_NS.search(summary)
    if found is None:
        raise RuntimeError(f"LoadGen's summary has no p90:\n{summary}")
    return int(found[1]) / 1e6


def segkit_p90_ms(segmenter: Segmenter, image: np.ndarray, seconds: float) -> float:
    figures = closed_loop(segmenter, [image], 1, Plan(seconds=seconds, warmup_s=0.0))
    if figures.errors:
        raise RuntimeError(f"requests failed: {dict(figures.errors)}")
    return figures.latency_ms["p90"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", help="host:port; a simulated segmenter by default")
    parser.add_argument("--service_ms", type=float, default=20.0, help="of the simulated one")
    parser.add_argument("--rtt_ms", type=float, default=10.0, help="of the simulated one")
    parser.add_argument("--jitter", type=float, default=0.5, help="share of the way, random")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()

    with ExitStack() as stack:
        segmenter: Any
        size = (480, 640)
        if arguments.server is None:
            segmenter = stack.enter_context(
                SimulatedSegmenter(
                    arguments.service_ms / 1e3, arguments.rtt_ms / 1e3, jitter=arguments.jitter
                )
            )
        else:
            segmenter = stack.enter_context(RemoteSegmenter(arguments.server))
            size = segmenter.describe().image_size
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        segmenter.submit(image).result()
        rounds: dict[str, list[float]] = {"segkit": [], "loadgen": []}
        for nth in range(arguments.rounds):
            ways = [("segkit", segkit_p90_ms), ("loadgen", loadgen_p90_ms)]
            for name, way in ways if nth % 2 == 0 else reversed(ways):
                rounds[name].append(way(segmenter, image, arguments.seconds))
            print(
                f"round {nth + 1}: "
                + "   ".join(f"{name} {values[-1]:.3f} ms" for name, values in rounds.items()),
                flush=True,
            )
    ours, theirs = rounds["segkit"], rounds["loadgen"]
    difference = median(a / b for a, b in zip(ours, theirs, strict=True)) - 1
    print(
        f"median p90: segkit {median(ours):.3f} ms, loadgen {median(theirs):.3f} ms; "
        f"segkit to loadgen within a round {difference:+.2%}"
    )
    if arguments.output:
        record = {
            "arguments": {key: str(value) for key, value in vars(arguments).items()},
            "machine": platform.processor() or platform.machine(),
            "p90_ms": rounds,
            "difference": difference,
        }
        arguments.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(abs(difference) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
