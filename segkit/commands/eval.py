"""Measures a checkpoint, an exported version or a running server on a labelled split.

The scores count the label's own pixels, and 255 nowhere. docs/eval.md defines each of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segkit.commands.connection_options import ConnectionOptions
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.commands.eval_target import Target
    from segkit.evaluation.measure import Example
    from segkit.evaluation.report import Report, WireReport
    from segkit.evaluation.scores import Scores

__all__ = ["Options", "run"]

TARGETS = ("checkpoint", "export", "server")
WIRE = re.compile(r"raw|jpeg:(\d{1,3})")
EVAL_JSON, MATRIX_PNG, CLASSES_PNG = "eval.json", "confusion_matrix.png", "class_iou.png"
TIMED_EXAMPLES = 10  # different images that the timing takes in turn


@dataclass(frozen=True, kw_only=True)
class Options(ConnectionOptions):
    """Flags of the evaluation."""

    checkpoint: Path | None = None
    """measure a run folder (its best checkpoint), or a .h5 of its checkpoints/"""
    export: Path | None = None
    """measure an exported version: its folder, or the folder of versions for the latest"""
    server: str | None = None
    """measure what a running server answers: host:port of its gRPC port"""
    model_name: str | None = None
    """name of the model at --server; segkit by default"""
    engine: str | None = None
    """what runs --export; the best of this machine by default"""
    dataset_dir: Path | None = None
    """where `tfds build` wrote the data set; TFDS's own folder by default"""
    dataset_name: str = "full_semantic"
    """name of the data set"""
    split: Literal["train", "val"] = "val"
    """the split to measure on"""
    image_size: tuple[int, int] | None = None
    """height and width that a checkpoint sees; those of the training by default"""
    multi_scale: list[float] = field(default_factory=list)
    """average the probabilities at these multiples of the image size, as in 0.5 0.75 1 1.25 1.5"""
    flip: bool = False
    """average with the mirrored image, at each scale"""
    sliding_window: tuple[int, int] | None = None
    """keep images at their own size and show the network windows of this one, averaged"""
    stride: tuple[int, int] | None = None
    """from one window to the next; two thirds of the window by default"""
    wire: str = "raw"
    """jpeg:Q also measures with images that went through JPEG of quality Q, and compares"""
    time_images: int = 50
    """images to measure the inference time on, after 5 others; 0 leaves it out"""
    output: Path | None = None
    """write eval.json, confusion_matrix.png and class_iou.png into this folder"""
    visualize: Path | None = None
    """write image, truth, prediction and error side by side into this folder, a PNG an image"""
    visualize_count: int | None = None
    """only so many of them, the worst; all by default"""
    overwrite: bool = False
    """write into the folders of --output and --visualize although they hold such files"""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [f"--{name}" for name in TARGETS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(
                f"{' and '.join(given)} are given" if given else "nothing is given to be measured",
                expected="exactly one of --checkpoint, --export and --server",
                next_step="--checkpoint RUN_FOLDER, --export VERSION_FOLDER or --server HOST:PORT",
            )
        for flag, target in (
            ("model_name", "--server"),
            ("ca", "--server"),
            ("engine", "--export"),
        ):
            if getattr(self, flag) is not None and given != [target]:
                raise ConfigError(
                    f"--{flag} is given with {given[0]}", expected=f"{target} with it, or neither"
                )
        self._check_passes(given[0])
        if not WIRE.fullmatch(self.wire) or self.quality not in (None, *range(1, 101)):
            raise ConfigError(f"--wire is '{self.wire}'", expected="raw, or jpeg:85 (1 to 100)")
        if self.visualize_count is not None and self.visualize is None:
            raise ConfigError(
                "--visualize_count is given without --visualize",
                expected="the folder to write to as well, as in --visualize pictures",
            )
        for flag, least in (("visualize_count", 1), ("time_images", 0)):
            value = getattr(self, flag)
            if value is not None and value < least:
                raise ConfigError(f"--{flag} is {value}", expected=f"{least} or more")

    def _check_passes(self, target: str) -> None:
        flags = ("image_size", "multi_scale", "flip", "sliding_window", "stride")
        given = [f"--{flag}" for flag in flags if getattr(self, flag)]
        if given and target != "--checkpoint":
            raise ConfigError(
                f"{given[0]} is given with {target}, which sees an image once, at a fixed size, "
                "and answers class ids: there are no probabilities to average",
                expected="--checkpoint with it",
                next_step=f"leave {given[0]} out, or measure the checkpoint",
            )
        if self.quality and self.averages:
            raise ConfigError(
                "--wire jpeg is given with --multi_scale, --flip or --sliding_window",
                expected="one of them: a served model sees what came over the wire once",
            )
        if any(not 0 < scale <= 8 for scale in self.multi_scale):
            given_scales = " ".join(f"{scale:g}" for scale in self.multi_scale)
            raise ConfigError(
                f"--multi_scale is {given_scales}",
                expected="numbers above 0 and up to 8, as in 0.5 0.75 1 1.25 1.5",
            )
        self._check_window()

    def _check_window(self) -> None:
        window, stride = self.sliding_window, self.stride
        if window is None:
            if stride is not None:
                raise ConfigError(
                    "--stride is given without --sliding_window", expected="both, or none of them"
                )
            return
        if self.image_size is not None:
            raise ConfigError(
                "--image_size is given with --sliding_window, which keeps images at their own size",
                expected="one of them",
            )
        if min(window) < 1:
            raise ConfigError(
                f"--sliding_window is {window[0]} {window[1]}", expected="a height and a width"
            )
        if stride is not None and not all(0 < s <= w for s, w in zip(stride, window, strict=True)):
            raise ConfigError(
                f"--stride is {stride[0]} {stride[1]}",
                expected=f"1 to {window[0]} down and 1 to {window[1]} right, the size of the "
                "window, so that no pixel is left out",
            )

    @property
    def quality(self) -> int | None:
        """Quality of the JPEG, or None for raw."""
        match = WIRE.fullmatch(self.wire)
        return int(match[1]) if match and match[1] else None

    @property
    def averages(self) -> bool:
        """Whether a checkpoint looks at an image more than once."""
        return bool(self.multi_scale or self.flip or self.sliding_window)


def run(options: Options) -> None:
    """Measures, prints a table and writes what was asked for."""
    _check_folders(options)
    from segkit.commands.eval_target import open_target
    from segkit.data.full_semantic import open_dataset

    dataset = open_dataset(options.dataset_dir, options.dataset_name)
    number = dataset.num_examples(options.split)
    with open_target(options, dataset.labels) as target:
        print(f"measuring {target.subject} on {number:,} {options.split} images", flush=True)
        report = _measure(options, dataset, target)
    print(report.to_text(), flush=True)
    if options.output is not None:
        _write(report, options.output)


def _check_folders(options: Options) -> None:
    """Refuses folders that are in use, before minutes are spent on what belongs there."""
    for flag in ("output", "visualize"):
        folder: Path | None = getattr(options, flag)
        if folder is None:
            continue
        if folder.is_dir() and any(folder.iterdir()) and not options.overwrite:
            raise ConfigError(
                f"the folder '{folder}' of --{flag} is not empty",
                expected="a new or an empty one",
                next_step=f"choose another --{flag}, or add --overwrite",
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise ConfigError(
                f"the folder '{folder}' of --{flag} cannot be made: {err.strerror}",
                expected="a folder that this user may write",
            ) from err


def _measure(options: Options, dataset: Any, target: Target) -> Report:
    import itertools

    from segkit.evaluation.measure import Example, measure, measure_time
    from segkit.evaluation.pictures import Pictures
    from segkit.evaluation.report import Report

    num_classes = dataset.labels.num_classes
    number = dataset.num_examples(options.split)

    def examples() -> Iterator[Example]:
        stored = dataset.examples(options.split).as_numpy_iterator()
        return _counted(map(Example.of, stored), number)

    time = None
    if options.time_images:
        some = list(itertools.islice(examples(), TIMED_EXAMPLES))
        time = measure_time(
            target.predictor, some, images=options.time_images, device=target.device
        )
    pictures = None
    if options.visualize is not None:
        pictures = Pictures(options.visualize, dataset.labels, count=options.visualize_count)
    scores = measure(
        target.predictor,
        examples(),
        num_classes=num_classes,
        on_image=pictures.add if pictures else None,
    )
    if pictures is not None:
        pictures.finish()
        print(f"{pictures.written:,} pictures written to {options.visualize}", flush=True)
    wire = None
    if options.quality is not None:
        wire = _measure_wire(options.quality, examples, target, num_classes=num_classes)
    return Report(
        subject=target.subject,
        how=target.how,
        split=options.split,
        labels=dataset.labels,
        scores=scores,
        profile=target.profile,
        time=time,
        wire=wire,
    )


def _measure_wire(
    quality: int, examples: Callable[[], Iterator[Example]], target: Target, *, num_classes: int
) -> WireReport:
    import math

    from segkit.evaluation.measure import measure
    from segkit.evaluation.report import WireReport
    from segkit.evaluation.wire import JpegPredictor

    print(f"measuring once more, through JPEG of quality {quality}", flush=True)
    predictor = JpegPredictor(target.predictor, quality, remote=target.remote)
    scores: Scores = measure(predictor, examples(), num_classes=num_classes)
    assert target.predictor.image_size is not None
    return WireReport(
        quality=quality,
        scores=scores,
        raw_bytes=3 * math.prod(target.predictor.image_size),
        jpeg_bytes=predictor.bytes_an_image,
    )


def _counted(examples: Iterator[Example], number: int) -> Iterator[Example]:
    """The same; says how far it is, if it takes long."""
    import time

    said = time.monotonic()
    for done, example in enumerate(examples):
        if time.monotonic() - said > 15:
            said = time.monotonic()
            print(f"  {done:,} of {number:,} images", flush=True)
        yield example


def _write(report: Report, folder: Path) -> None:
    import json

    from segkit.evaluation.class_bars import write_class_bars
    from segkit.evaluation.plots import write_confusion_matrix
    from segkit.runs import replacing

    with replacing(folder / EVAL_JSON) as incoming:
        text = json.dumps(report.to_json(), indent=1, allow_nan=False)
        incoming.write_text(text + "\n", encoding="utf-8")
    write_confusion_matrix(folder / MATRIX_PNG, report.scores.matrix, report.labels)
    write_class_bars(folder / CLASSES_PNG, report.scores, report.labels)
    print(f"{EVAL_JSON}, {MATRIX_PNG} and {CLASSES_PNG} written to {folder}", flush=True)
