"""choose_wire(): raw pixels or JPEG, by what a frame takes there and back."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from segkit.client.segmenter import Answer
from segkit.client.wire_format import RAW, WireFormat
from segkit.video.frame import Image

__all__ = ["JPEG", "choose_wire"]

JPEG = WireFormat(90)  # at 85 the mean_iou on CamVid is what it is raw (docs/eval.md)
WORTH = 0.8  # JPEG changes the pixels, so it has to be faster than that share of raw
LEAST_ROUNDS = 3


class _Asker(Protocol):
    def submit(self, image: Image) -> Future[Answer]: ...


def choose_wire(
    ask: Callable[[WireFormat], _Asker],
    image: Image,
    *,
    seconds: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[WireFormat, str]:
    """Tries both in turns, one request at a time.

    On a fast network raw pixels are quicker, since nothing is encoded; on a slow one the JPEG's
    tenth of the bytes are.

    Args:
        ask: Gives what asks the server in a format.
        image: A frame of the source.
        seconds: How long to try.
        clock: Gives seconds.

    Returns:
        The faster one, and the reason in words.

    Raises:
        ServerError: A request failed.
    """
    askers = {wire: ask(wire) for wire in (RAW, JPEG)}
    for asker in askers.values():
        asker.submit(image).result()  # the first one is slow: connection, memory, caches
    times: dict[WireFormat, list[float]] = {wire: [] for wire in askers}
    end = clock() + seconds
    while clock() < end or len(times[JPEG]) < LEAST_ROUNDS:
        for wire, asker in askers.items():
            begin = clock()
            asker.submit(image).result()
            times[wire].append(clock() - begin)
    raw_s, jpeg_s = (statistics.median(times[wire]) for wire in (RAW, JPEG))
    chosen = JPEG if jpeg_s < WORTH * raw_s else RAW
    return (
        chosen,
        f"{chosen}: a frame takes {1e3 * raw_s:.3g} ms raw, {1e3 * jpeg_s:.3g} ms as {JPEG}",
    )
