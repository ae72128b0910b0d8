"""prove_version(): every variant of a written version held to its checkpoint, on real images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from segkit.client import LocalSegmenter
from segkit.engines import open_variant
from segkit.engines.cpu import cpu_name
from segkit.engines.variants import Variant
from segkit.errors import ExportError
from segkit.evaluation.latency import tensorflow_device
from segkit.evaluation.predictors import SegmenterPredictor
from segkit.evaluation.proof import Contestant, Proof, Thresholds, prove
from segkit.evaluation.real_images import RealImages
from segkit.export.check import check_answers

__all__ = ["open_contestant", "prove_version"]


def prove_version(
    version_dir: Path,
    variants: tuple[Variant, ...],
    reference: Contestant,
    images: RealImages,
    *,
    thresholds: Thresholds,
    report: Callable[[Proof], None] = lambda proof: None,
) -> tuple[Variant, ...]:
    """Proves each variant.

    Args:
        version_dir: The version, not published yet.
        variants: What is in it.
        reference: The checkpoint's network.
        images: Real ones.
        thresholds: What is allowed.
        report: Told of each proof, whatever its outcome.

    Returns:
        The variants with their proofs.

    Raises:
        ExportError: A variant answers otherwise than the checkpoint, beyond the thresholds, or
            cannot be run on this machine.
    """
    proved = []
    failures = []
    for variant in variants:
        engine = open_variant(version_dir, variant)
        with LocalSegmenter(engine) as local:
            check_answers(engine)
            candidate = open_contestant(local, variant)
            proof = prove(reference, candidate, images, thresholds=thresholds)
        report(proof)
        failures += [f"{variant.name}: {failure}" for failure in proof.failures]
        proved.append(replace(variant, proof=proof.to_json()))
    if failures:
        raise ExportError(
            "the export does not answer as its checkpoint does: " + "; ".join(failures),
            expected=f"{thresholds.min_agreement:.2%} of the pixels or more, and a mean_iou at "
            f"most {thresholds.max_miou_drop:g} lower",
            next_step="nothing was published; if that is near enough, say so by --min_agreement "
            "and --max_miou_drop, else leave the format out",
        )
    return tuple(proved)


def open_contestant(local: LocalSegmenter, variant: Variant) -> Contestant:
    """A variant that is open, as one of two to compare."""
    on_tensorflow = variant.name.engine == "tensorflow"
    return Contestant(
        name=str(variant.name),
        predictor=SegmenterPredictor(local),
        device=tensorflow_device() if on_tensorflow else cpu_name(),
        size_bytes=variant.size_bytes,
    )
