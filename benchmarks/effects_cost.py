"""What drawing and smoothing a frame cost, every effect in turn, on a generated street.

All effects take turns, in one thread, and the processor's time of that thread is what counts:
other work on the machine then makes it longer only by what it takes of the caches. The minimum is
nearest to what an effect costs on a machine of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from turns import take_turns

from segkit.data.scenes import LABELS, Street
from segkit.video.effects import make_effect
from segkit.video.frame import Frame
from segkit.video.meters import percentiles
from segkit.video.resize import resize_image, resize_mask
from segkit.video.smoothing import ConfidenceAverage, Hysteresis, Smoother

SIZES = ((480, 640), (1080, 1920))
EFFECTS = (
    "overlay",
    "overlay:road=0.2,car=0.8",
    "contours",
    "mask",
    "side_by_side",
    "confidence",
    "blur:person",
    "replace:person:#204060",
    "replace:person:beach.png",
    "spotlight:person",
    "pixelate:person",
    "original",
)
BUDGETS_MS = {"overlay": 1.0, "blur:person": 3.0}  # at 640x480
WARM_UP = 10


def ways(size: tuple[int, int]) -> dict[str, Callable[[], object]]:
    """Effects and smoothers on a street of that size with somebody in it."""
    # Drawn smaller: what it shows is the same, and drawing streets is not what is measured.
    image, mask = Street(5, image_size=(360, 480)).render(4)
    image, mask = resize_image(image, size), resize_mask(mask, size)
    rng = np.random.default_rng(0)
    confidence = resize_image(
        rng.integers(90, 256, (size[0] // 8, size[1] // 8, 3), np.uint8), size
    )
    confidence = np.ascontiguousarray(confidence[..., 0])
    other = np.where(confidence < 110, np.roll(mask, 8), mask).astype(np.uint8)  # flickers
    made: dict[str, Callable[[], object]] = {}
    for text in EFFECTS:
        draw = make_effect(text, LABELS)
        made[text] = lambda draw=draw: draw(image, mask, confidence)
    smoothers: dict[str, Smoother] = {
        "hysteresis, k = 3": Hysteresis(3),
        "confidence average": ConfidenceAverage(),
    }
    for name, smoother in smoothers.items():
        made[name] = _stream(smoother, image, (mask, other), confidence)
    return made


def _stream(
    smoother: Smoother, image: np.ndarray, masks: tuple[np.ndarray, ...], confidence: np.ndarray
) -> Callable[[], object]:
    index = 0

    def step() -> object:
        nonlocal index
        index += 1
        frame = Frame(image, index, Fraction(index, 25))
        return smoother(frame, masks[index % len(masks)], confidence)

    return step


def measure(made: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    passes = take_turns(made, rounds, warm_up=WARM_UP, clock=time.thread_time)
    return {
        name: {
            "min_ms": min(values),
            "p50_ms": percentiles(values, (50,))[0],
            "p90_ms": percentiles(values, (90,))[0],
        }
        for name, values in passes.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/effects_cost.json"))
    options = parser.parse_args()
    cv2.setNumThreads(1)

    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        beach = Path(folder) / "beach.png"
        cv2.imwrite(str(beach), np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8))
        output = options.output.resolve()
        os.chdir(folder)
        for size in SIZES:
            figures[f"{size[1]}x{size[0]}"] = measure(ways(size), options.rounds)
    record = {
        "command": "python " + " ".join(sys.argv),
        "machine": f"{os.cpu_count()} x {platform.machine()}, load {os.getloadavg()[0]:.1f}, "
        f"one thread, OpenCV {cv2.__version__}",
        "rounds": options.rounds,
        "figures": figures,
        "budgets_ms": BUDGETS_MS,
    }
    report(record, figures)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {options.output}")
    small = figures["640x480"]
    return int(any(small[name]["p50_ms"] > budget for name, budget in BUDGETS_MS.items()))


def report(record: dict[str, object], figures: dict[str, dict[str, dict[str, float]]]) -> None:
    print(f"{record['command']}\n{record['machine']}, {record['rounds']} rounds")
    print(f"{'median (minimum), CPU ms':<28}" + "".join(f"{size:>18}" for size in figures))
    for name in next(iter(figures.values())):
        cells = [
            f"{each[name]['p50_ms']:.2f} ({each[name]['min_ms']:.2f})" for each in figures.values()
        ]
        print(f"{name:<28}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    raise SystemExit(main())
