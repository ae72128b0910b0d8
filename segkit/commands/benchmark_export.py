"""Exports a checkpoint in every form and sets them side by side: size, accuracy, speed.

Nothing is published. A form that this machine cannot make or run is skipped, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.commands.export import check_batch_sizes
from segkit.commands.json_file import write_json
from segkit.commands.proof_options import ProofOptions, require_data
from segkit.engines.variants import PRECISIONS, VariantName
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.export.benchmark import Figures, Subject

__all__ = ["Options", "run"]

ALL, TENSORRT = "all", "tensorrt"
BENCHMARK_JSON, BENCHMARK_PNG = "benchmark.json", "benchmark.png"


@dataclass(frozen=True, kw_only=True)
class Options(ProofOptions):
    """Flags of the benchmark."""

    checkpoint: Path
    """a run folder (its best checkpoint), or a .h5 of its checkpoints/"""
    format: list[str] = field(default_factory=lambda: [ALL])
    """the forms, as of `segkit export`, and tensorrt (FP16); all of them by default"""
    batch_sizes: list[int] = field(default_factory=lambda: [1])
    """batch sizes to measure"""
    image_size: tuple[int, int] | None = None
    """height and width; those of the training by default"""
    calibration: str | None = None
    """for int8: images to find the ranges on; the train split of --data by default"""
    num_calibration_images: int = 200
    """how many of them, spread evenly"""
    repeats: int = 30
    """measured runs of each form and batch size, in turns"""
    output: Path | None = None
    """write benchmark.json and benchmark.png into this folder"""
    overwrite: bool = False
    """write into the folder of --output although it holds such files"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_batch_sizes(self.batch_sizes)
        for flag in ("repeats", "num_calibration_images"):
            if getattr(self, flag) < 1:
                raise ConfigError(f"--{flag} is {getattr(self, flag)}", expected="1 or more")
        if not self.format:
            raise ConfigError("--format is empty", expected="all, or some forms")
        if self.output is not None and not self.overwrite:
            there = [
                name for name in (BENCHMARK_JSON, BENCHMARK_PNG) if (self.output / name).exists()
            ]
            if there:
                raise ConfigError(
                    f"'{self.output / there[0]}' exists",
                    next_step="choose another --output, or add --overwrite",
                )
        _ = self.names

    @property
    def names(self) -> list[VariantName]:
        """The forms, each once.

        Raises:
            ConfigError: One of --format is unknown.
        """
        names: list[VariantName] = []
        for text in self.format:
            if text == ALL:
                names += [VariantName(name, x) for name, known in PRECISIONS.items() for x in known]
            if text in (ALL, TENSORRT):
                names.append(VariantName(TENSORRT, "float16"))
            else:
                names.append(VariantName.parse(text, flag="--format"))
        return list(dict.fromkeys(names))


def run(options: Options) -> None:
    """Exports, measures, prints."""
    import tempfile

    data = require_data(options, options.checkpoint)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)

    from segkit.export.benchmark import benchmark
    from segkit.export.benchmark_report import render

    def say(text: str) -> None:
        print(text, flush=True)

    say(f"reading {options.checkpoint} and images of {data}")
    subject = _subject(options, data)
    with tempfile.TemporaryDirectory(prefix="segkit-benchmark-") as folder:
        figures = benchmark(subject, options.names, Path(folder), repeats=options.repeats, say=say)
    say(render(figures))
    if options.output is not None:
        _write(options, figures)
        say(f"{BENCHMARK_JSON} and {BENCHMARK_PNG} written to {options.output}")


def _subject(options: Options, data: str) -> Subject:
    from segkit.export.benchmark import Subject
    from segkit.export.checkpoint import Evidence, describe_checkpoint, keras_contestant
    from segkit.export.formats import needs_calibration
    from segkit.models.checkpoints import load_checkpoint

    model, record = load_checkpoint(options.checkpoint, image_size=options.image_size)
    evidence = Evidence(
        data=data,
        num_images=options.num_images,
        calibration=options.calibration,
        num_calibration_images=options.num_calibration_images,
    )
    metadata = describe_checkpoint(
        options.checkpoint,
        record,
        image_size=options.image_size,
        batch_sizes=options.batch_sizes,
    )
    calibrated = any(map(needs_calibration, options.names))
    return Subject(
        checkpoint=options.checkpoint,
        model=model,
        metadata=metadata,
        reference=keras_contestant(model, record.labels, options.checkpoint),
        images=evidence.read(record.labels),
        calibration=(
            evidence.read_calibration(record.labels, metadata.image_size) if calibrated else ()
        ),
    )


def _write(options: Options, figures: Figures) -> None:
    from segkit.export.benchmark_report import write_plot

    assert options.output is not None
    record = {
        "checkpoint": str(options.checkpoint),
        "device": figures.device,
        "images_from": figures.source,
        "images": figures.num_images,
        "rows": [row.to_json() for row in figures.rows],
    }
    write_json(options.output / BENCHMARK_JSON, record)
    write_plot(options.output / BENCHMARK_PNG, figures)
