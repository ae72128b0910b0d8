"""measure(): a predictor over a split; measure_time(): how long it takes over one image."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segkit.data.parallel import in_order
from segkit.evaluation.predictors import Predictor
from segkit.evaluation.scores import Scores
from segkit.video.meters import percentiles

__all__ = ["WARM_UP", "Example", "InferenceTime", "measure", "measure_time"]

WARM_UP = 5  # images before the first that counts: tracing, oneDNN's primitives, memory pools

Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A labelled image.

    Args:
        stem: Its name.
        image: uint8, (H, W, 3), RGB.
        truth: Class ids, uint8, (H, W); 255 is ignored.
    """

    stem: str
    image: npt.NDArray[np.uint8]
    truth: Mask

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Example:
        """One of segkit.data.full_semantic's examples, as NumPy has it."""
        return cls(stem=stored["stem"].decode(), image=stored["image"], truth=stored["mask"])


OnImage = Callable[[Example, Mask, Scores], None]


@dataclass(frozen=True, kw_only=True)
class InferenceTime:
    """Wall-clock time from an image in memory to its class ids at the label's size.

    Args:
        images: How many were measured, one at a time.
        warm_up: How many came before them.
        mean_ms: Average.
        p50_ms: Half took no longer.
        p90_ms: Nine of ten took no longer.
        p99_ms: 99 of 100 took no longer.
        device: What it ran on.
    """

    images: int
    warm_up: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    device: str


def measure(
    predictor: Predictor,
    examples: Iterable[Example],
    *,
    num_classes: int,
    on_image: OnImage | None = None,
) -> Scores:
    """Predicts every example and adds up the scores; those are counted while the next is predicted.

    Args:
        predictor: What is evaluated.
        examples: The split.
        num_classes: Number of classes.
        on_image: Called with each example, its prediction and its scores, from several threads.
    """

    def predicted() -> Iterator[tuple[Example, Mask]]:
        for example in examples:
            height, width = example.truth.shape
            yield example, predictor.predict(example.image, (height, width))

    def score(pair: tuple[Example, Mask]) -> Scores:
        example, prediction = pair
        scores = Scores.of(example.stem, example.truth, prediction, num_classes=num_classes)
        if on_image is not None:
            on_image(example, prediction, scores)
        return scores

    total = Scores(num_classes)
    for scores in in_order(score, predicted()):
        total.add(scores)
    return total


def measure_time(
    predictor: Predictor, examples: Sequence[Example], *, images: int, device: str
) -> InferenceTime:
    """Times the prediction of one image at a time, with nothing else going on.

    Args:
        predictor: What is evaluated.
        examples: Taken in turn, again and again.
        images: How many to measure, after WARM_UP others.
        device: What it runs on, for the record.
    """
    milliseconds = []
    for example in itertools.islice(itertools.cycle(examples), WARM_UP + images):
        height, width = example.truth.shape
        start = time.perf_counter()
        predictor.predict(example.image, (height, width))
        milliseconds.append(1e3 * (time.perf_counter() - start))
    counted = milliseconds[WARM_UP:]
    p50, p90, p99 = percentiles(counted)
    return InferenceTime(
        images=images,
        warm_up=WARM_UP,
        mean_ms=float(np.mean(counted)),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        device=device,
    )
