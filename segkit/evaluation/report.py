"""The report of an evaluation: a table for people, a record for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segkit.evaluation.boundary import BAND_SHARE, TOLERANCE_SHARE
from segkit.evaluation.measure import InferenceTime
from segkit.evaluation.profile import Profile
from segkit.evaluation.scores import RULE, Scores
from segkit.labels import LabelMap

__all__ = ["Report", "WireReport"]

WORST = 5  # images that the text names
_COLUMNS = {  # of Scores.by_class and Scores.summary
    "iou": ("IoU", "mean_iou"),
    "accuracy": ("accuracy", "mean_accuracy"),
    "dice": ("Dice", "mean_dice"),
    "boundary_iou": ("boundary IoU", "boundary_iou"),
    "boundary_f": ("boundary F", "boundary_f"),
}


@dataclass(frozen=True, kw_only=True)
class WireReport:
    """What compression costs.

    Args:
        quality: Of the JPEG, 1..100.
        scores: With images that went through it.
        raw_bytes: Of an image as it is.
        jpeg_bytes: Of a JPEG, mean.
    """

    quality: int
    scores: Scores
    raw_bytes: float
    jpeg_bytes: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that an evaluation found.

    Args:
        subject: What was evaluated, in words.
        how: What it looked at, in words.
        split: The split.
        labels: Its classes.
        scores: With images as they are.
        profile: Parameters and MACs, where the network is known.
        time: Inference time, where it was measured.
        wire: What compression costs, where it was asked for.
    """

    subject: str
    how: str
    split: str
    labels: LabelMap
    scores: Scores
    profile: Profile | None = None
    time: InferenceTime | None = None
    wire: WireReport | None = None

    def to_text(self) -> str:
        """For people."""
        images = f"{len(self.scores.images):,} {self.split} images at the size of their labels"
        lines = [
            f"{self.subject}: {images}; {self.how}",
            "",
            *self._class_table(),
            "",
            *self._summary(),
            "",
            *self._cost(),
        ]
        if self.wire is not None:
            lines += ["", *self._wire_table(self.wire)]
        worst = self.scores.worst_images()[:WORST]
        named = ", ".join(f"{image.stem} {image.mean_iou:.3f}" for image in worst)
        return "\n".join([*lines, "", f"worst images: {named or 'none, all pixels are ignored'}"])

    def to_json(self) -> dict[str, Any]:
        """The same and more as what json.dumps takes, exact."""
        record: dict[str, Any] = {
            "subject": self.subject,
            "how": self.how,
            "split": self.split,
            "num_images": len(self.scores.images),
            "boundary_iou_band": BAND_SHARE,
            "boundary_f_tolerance": TOLERANCE_SHARE,
            **self.scores.to_json(self.labels),
        }
        if self.profile is not None:
            record["profile"] = self.profile.to_json()
        if self.time is not None:
            record["inference_time"] = asdict(self.time)
        if self.wire is not None:
            record["wire"] = {
                "quality": self.wire.quality,
                "raw_bytes": self.wire.raw_bytes,
                "jpeg_bytes": self.wire.jpeg_bytes,
                **self.wire.scores.to_json(self.labels),
            }
        return record

    def _class_table(self) -> list[str]:
        by_class, summary = self.scores.by_class(), self.scores.summary()
        width = max(len("class"), *map(len, self.labels.names))
        titles = [title for title, _ in _COLUMNS.values()]
        widths = [max(len(title), 7) for title in titles]

        def line(name: str, values: list[float], pixels: int) -> str:
            cells = [f"{_score(value):>{w}}" for value, w in zip(values, widths, strict=True)]
            return "  ".join([f"{name:<{width}}", *cells, f"{pixels:>14,}"])

        head = [f"{title:>{w}}" for title, w in zip(titles, widths, strict=True)]
        rows = [
            line(name, [by_class[column][id_] for column in _COLUMNS], by_class["pixels"][id_])
            for id_, name in enumerate(self.labels.names)
        ]
        means = [summary[mean] for _, mean in _COLUMNS.values()]
        return [
            "  ".join([f"{'class':<{width}}", *head, f"{'pixels':>14}"]),
            *rows,
            line("mean", means, int(by_class["pixels"].sum())),
        ]

    def _summary(self) -> list[str]:
        summary = self.scores.summary()
        counted = int(np.isfinite(self.scores.matrix.class_iou).sum())
        return [
            f"mean_iou {summary['mean_iou']:.4f} over {counted} of {self.labels.num_classes} "
            f"classes; {RULE}",
            f"pixel_accuracy {summary['pixel_accuracy']:.4f}   "
            f"frequency_weighted_iou {summary['frequency_weighted_iou']:.4f}   "
            f"kappa {summary['kappa']:.4f}",
            f"boundary IoU: band of {100 * BAND_SHARE:g} % of the diagonal, summed over the images;"
            f" boundary F: tolerance {100 * TOLERANCE_SHARE:g} %, mean over the images",
        ]

    def _cost(self) -> list[str]:
        lines = ["parameters and MACs: not known, the network is none of segkit's"]
        if self.profile is not None:
            height, width = self.profile.image_size
            lines = [
                f"{self.profile.network}: {self.profile.parameters.trainable:,} parameters, "
                f"{self.profile.macs.total / 1e9:.3g} G MACs a pass at {height}x{width}"
            ]
        if self.time is not None:
            t = self.time
            lines.append(
                f"inference {t.mean_ms:.1f} ms on average, p50 {t.p50_ms:.1f}, p90 {t.p90_ms:.1f}, "
                f"p99 {t.p99_ms:.1f}: {t.images} images one at a time after {t.warm_up}, {t.device}"
            )
        return lines

    def _wire_table(self, wire: WireReport) -> list[str]:
        raw, jpeg = self.scores.summary(), wire.scores.summary()
        difference = {name: jpeg[name] - raw[name] for name in raw}
        shown = ("mean_iou", "pixel_accuracy", "mean_dice", "boundary_iou", "boundary_f")

        def line(name: str, values: Mapping[str, float], form: str, size: str) -> str:
            cells = [f"{format(values[key], form):>{len(key)}}" for key in shown]
            return "  ".join([f"{name:<10}", *cells, f"{size:>13}"])

        share = f"{100 * wire.jpeg_bytes / wire.raw_bytes:.1f} %"
        return [
            "  ".join([f"{'wire':<10}", *shown, "bytes a frame"]),
            line("raw", raw, ".4f", f"{wire.raw_bytes:,.0f}"),
            line(f"jpeg:{wire.quality}", jpeg, ".4f", f"{wire.jpeg_bytes:,.0f}"),
            line("difference", difference, "+.4f", share),
        ]


def _score(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"
