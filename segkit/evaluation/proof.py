"""prove(): two forms of a model held to each other, with what each costs and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from segkit.evaluation.agreement import Agreement, compare
from segkit.evaluation.latency import Latency, measure_latency
from segkit.evaluation.predictors import Predictor
from segkit.evaluation.real_images import RealImages
from segkit.video.resize import resize_image

__all__ = ["Contestant", "Proof", "Thresholds", "prove"]

MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What a model may differ from what it was made of.

    Args:
        min_agreement: Share of pixels with the same class, 0..1.
        max_miou_drop: By how much mean_iou may be lower, 0..1; of no effect without labels.
    """

    min_agreement: float = 0.99
    max_miou_drop: float = 0.005


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One of the two.

    Args:
        name: What it is, in words.
        predictor: Answers.
        device: What it runs on, in words.
        size_bytes: Of its files; None where they are not at hand.
    """

    name: str
    predictor: Predictor
    device: str
    size_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the comparison found.

    Args:
        names: Of the reference and of the candidate.
        source: Where the images came from.
        agreement: What both answered.
        latencies: One image at a time, in memory, with what it takes to resize it; in turns.
        size_bytes: Of both.
        thresholds: What was allowed.
    """

    names: tuple[str, str]
    source: str
    agreement: Agreement
    latencies: tuple[Latency, Latency]
    size_bytes: tuple[int | None, int | None]
    thresholds: Thresholds

    @property
    def failures(self) -> tuple[str, ...]:
        """What is not within the thresholds, in words; empty if all is."""
        share, drop = self.agreement.share, self.agreement.miou_drop
        failures = []
        if not share >= self.thresholds.min_agreement:
            failures.append(
                f"the same class on {share:.2%} of the pixels, less than "
                f"{self.thresholds.min_agreement:.2%} (--min_agreement)"
            )
        if drop is not None and drop > self.thresholds.max_miou_drop:
            failures.append(
                f"mean_iou is {drop:.4f} lower, more than {self.thresholds.max_miou_drop:g} "
                "(--max_miou_drop)"
            )
        return tuple(failures)

    def to_json(self) -> dict[str, Any]:
        """The same as what json.dumps takes."""
        return {
            "reference": self.names[0],
            "candidate": self.names[1],
            "images_from": self.source,
            **self.agreement.to_json(),
            "latency_ms": [asdict(latency) for latency in self.latencies],
            "size_bytes": list(self.size_bytes),
            "thresholds": asdict(self.thresholds),
            "passed": not self.failures,
        }

    def render(self) -> str:
        """The same for people, some lines."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterable[str]:
        found = self.agreement
        yield f"{self.names[1]} held to {self.names[0]}: {found.images} images of {self.source}"
        yield f"  same class         {found.share:.3%} of the pixels"
        if found.least_alike is not None:
            name, iou = found.least_alike
            yield f"  least alike        {name}, IoU of the two areas {iou:.4f}"
        if found.mean_ious is not None:
            first, second = found.mean_ious
            yield f"  mean_iou           {first:.4f} -> {second:.4f} ({second - first:+.4f})"
        if found.largest_class_change is not None:
            name, change = found.largest_class_change
            yield f"  largest change     {name}, IoU {change:+.4f}"
        yield f"  {'p50/p90/p99 ms':<19}{' -> '.join(map(_times, self.latencies))}"
        yield f"  {'size':<19}{' -> '.join(map(_size, self.size_bytes))}"
        verdict = "; ".join(self.failures)
        yield f"  {'FAILED' if verdict else 'passed':<19}{verdict}".rstrip()


def prove(
    reference: Contestant,
    candidate: Contestant,
    images: RealImages,
    *,
    thresholds: Thresholds,
    repeats: int = 20,
) -> Proof:
    """Compares on every image, then times both on one of them, in turns.

    Args:
        reference: What the candidate is held to.
        candidate: Its classes are matched by name.
        images: Real ones.
        thresholds: What is allowed.
        repeats: Measured runs of each.

    Raises:
        ConfigError: The two do not have the same classes.
    """
    both = (reference, candidate)
    agreement = compare(reference.predictor, candidate.predictor, images.images)
    return Proof(
        names=(reference.name, candidate.name),
        source=images.source,
        agreement=agreement,
        latencies=_time(both, images, repeats),
        size_bytes=(reference.size_bytes, candidate.size_bytes),
        thresholds=thresholds,
    )


def _time(both: Sequence[Contestant], images: RealImages, repeats: int) -> tuple[Latency, Latency]:
    shown = images.images[len(images.images) // 2].image
    ways = {}
    for key, contestant in zip(("reference", "candidate"), both, strict=True):
        predictor = contestant.predictor
        size = predictor.image_size or (shown.shape[0], shown.shape[1])
        image = resize_image(shown, size)
        ways[key] = lambda predictor=predictor, image=image, size=size: predictor.predict(
            image, size
        )
    first, second = measure_latency(
        ways,
        repeats=repeats,
        batch_size=1,
        devices={"reference": both[0].device, "candidate": both[1].device},
    )
    return first, second


def _times(latency: Latency) -> str:
    return "/".join(f"{ms:.1f}" for ms in (latency.p50_ms, latency.p90_ms, latency.p99_ms))


def _size(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else f"{size_bytes / MB:.1f} MB"
