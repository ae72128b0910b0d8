"""Predicts how TF-TRT of TensorFlow 2.15 will split a network into engines, without TensorRT.

It names the layer behind every op that splits the graph, and what to do about it. Whatever it
predicts, its exit status is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segkit import contract
from segkit.commands.json_file import check_json
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.export.tensorrt_report import TensorRTReport

__all__ = ["Options", "run"]

STDOUT = "-"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the TensorRT report."""

    model: str | None = None
    """a network to build and read; --image_size, --num_classes and --resize are its"""
    saved_model: Path | None = None
    """a SavedModel to read instead, segkit's or any other"""
    signature: str = contract.DEFAULT_SIGNATURE
    """the signature of --saved_model to read"""
    image_size: tuple[int, int] = (480, 640)
    """height and width of --model"""
    num_classes: int = 19
    """number of classes of --model"""
    resize: Literal["matmul", "bilinear"] = "matmul"
    """how --model resizes: matmul is the form for TensorRT, bilinear the one for training"""
    minimum_segment_size: int = 3
    """nodes that a segment must have to become an engine, as in TF-TRT's Converter"""
    json: str | None = None
    """write the report to this file as JSON; - prints JSON instead of text"""
    overwrite: bool = False
    """replace the file of --json if it exists"""

    def __post_init__(self) -> None:
        if (self.model is None) == (self.saved_model is None):
            raise ConfigError(
                "neither --model nor --saved_model is given"
                if self.model is None
                else "both --model and --saved_model are given",
                expected="exactly one of them",
                next_step="--model ddrnet23_slim, or --saved_model checkpoints/export_path/1",
            )
        for flag in ("minimum_segment_size", "num_classes"):
            if getattr(self, flag) < 1:
                raise ConfigError(
                    f"--{flag} is {getattr(self, flag)}", expected="a whole number of 1 or more"
                )


def run(options: Options) -> None:
    """Reads the graph, asks TF-TRT, prints."""
    import json

    file = None if options.json in (None, STDOUT) else Path(str(options.json))
    check_json(file, overwrite=options.overwrite)

    from segkit.export.tensorrt_text import render  # takes seconds: it brings TensorFlow

    report = _network_report(options) if options.saved_model is None else _saved_report(options)
    document = json.dumps(report.to_json(), indent=2)
    print(document if options.json == STDOUT else render(report), flush=True)
    if file is not None:
        beside = file.with_name(f".{file.name}.part")
        beside.write_text(document + "\n", encoding="utf-8")
        beside.replace(file)
        print(f"written to {file}", flush=True)


def _network_report(options: Options) -> TensorRTReport:
    from segkit.export.tensorrt_report import report
    from segkit.models import build_model
    from segkit.models.graph import float_core, freeze

    height, width = options.image_size
    model = build_model(
        options.model or "", (height, width), options.num_classes, resize=options.resize
    )
    return report(
        freeze(float_core(model)),
        subject=f"{model.name}, {height}x{width}, resize {options.resize}",
        minimum_segment_size=options.minimum_segment_size,
        layers=[layer.name for layer in model.layers],
    )


def _saved_report(options: Options) -> TensorRTReport:
    from segkit.export.tensorrt_report import report
    from segkit.models.graph import freeze, load_signature

    assert options.saved_model is not None
    return report(
        freeze(load_signature(options.saved_model, options.signature)),
        subject=f"{options.saved_model}, signature {options.signature}",
        minimum_segment_size=options.minimum_segment_size,
    )
