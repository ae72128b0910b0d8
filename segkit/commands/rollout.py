"""Brings a version into service on a running server: loaded, checked, compared, then labelled.

It works by TensorFlow Serving's own API, so on the container as on `segkit serve`. Clients go on
being served. Whatever fails is undone, and the exit status is 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from segkit.commands.proof_options import ProofOptions
from segkit.commands.rollout_options import (
    PlaceOptions,
    open_place,
    outcome_record,
    say,
    write_report,
)
from segkit.errors import ConfigError, SegkitError

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(PlaceOptions, ProofOptions):
    """Flags of the roll-out."""

    version: int
    """the version to bring into service"""
    canary: bool = False
    """give it the label canary, and leave stable where it is"""
    drop_old: bool = False
    """unload every version that has no label in the end; else the old one stays, for a rollback at
    once"""
    export: Path | None = None
    """the version's folder on this machine, or that of the versions: what it says of its engines is
    read before the server loads it; where the server has it by default, if that is here"""
    gpu_compute_capability: str | None = None
    """of the server's GPU, as 8.6; the engines of the version that serves tell it by default"""
    trust_engines: bool = False
    """load it whatever TensorRT engines it may hold: those of another machine end the server"""
    allow_new_classes: bool = False
    """its classes may be others, or in another order"""
    allow_new_image_size: bool = False
    """its image size may be another"""
    data: str | None = None
    """the images to compare on: KIND:PATH of a labelled set (its val split), or images:PATH of a
    folder, an image or a video without labels; not needed where nothing serves yet"""
    min_agreement: float = 0.8
    """share of pixels that must have the same class, 0 to 1: two models that are each right on nine
    of ten pixels have it on eight at least"""
    max_miou_drop: float = 0.01
    """by how much mean_iou may be lower, where there are labels"""

    def __post_init__(self) -> None:
        PlaceOptions.__post_init__(self)
        ProofOptions.__post_init__(self)
        if self.version < 0:
            raise ConfigError(f"--version is {self.version}", expected="the number of a version")
        capability = self.gpu_compute_capability
        if capability is not None and not re.fullmatch(r"\d+\.\d", capability):
            raise ConfigError(
                f"--gpu_compute_capability is '{capability}'",
                expected="two numbers, as 8.6",
                next_step="nvidia-smi --query-gpu=compute_cap --format=csv shows it on the server",
            )


def run(options: Options) -> None:
    """Rolls out, and says what serves."""
    from segkit.serving.rollout.checks import VersionChecks, find_manifest
    from segkit.serving.rollout.steps import rollout

    with open_place(options) as place:
        checks = VersionChecks(
            control=place.control,
            model=place.model,
            version=options.version,
            data=options.data,
            num_images=options.num_images,
            thresholds=options.thresholds,
            manifest=find_manifest(options.export, options.version, base_path=place.base_path),
            compute_capability=options.gpu_compute_capability,
            trust_engines=options.trust_engines,
            allow_new_classes=options.allow_new_classes,
            allow_new_image_size=options.allow_new_image_size,
            credentials=options.credentials,
            say=say,
        )
        try:
            outcome = rollout(
                place,
                options.version,
                checks,
                canary=options.canary,
                drop_old=options.drop_old,
                undo=options.undo(),
                waiting=options.waiting,
            )
        except SegkitError as err:
            proof = checks.proof and checks.proof.to_json()
            record = {"action": "rollout", "version": options.version, "done": False}
            write_report(options, {**record, "problem": err.problem, "proof": proof})
            raise
    proof = outcome.proof and outcome.proof.to_json()
    write_report(options, {**outcome_record(outcome), "proof": proof})
    say(f"served now: {outcome.served}")
    if outcome.changed:
        say(f"undo it by: {options.undo(outcome.before)}")
