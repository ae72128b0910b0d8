"""Says what a network costs: parameters, multiply-accumulates, activation memory, latency.

The latency is that of the exported model on this machine, engine by engine; all else is counted on
the inference graph and is the same everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segkit.errors import ConfigError, SegkitError

if TYPE_CHECKING:
    from segkit.engines.variants import VariantName
    from segkit.evaluation.latency import Latency
    from segkit.evaluation.profile import Profile
    from segkit.labels import LabelMap

__all__ = ["Options", "render", "run"]

STDOUT = "-"
DEFAULT_IMAGE_SIZE = (480, 640)
DEFAULT_NUM_CLASSES = 19
ALL_ENGINES = "all"
KERAS = "keras"  # the row of the bare model


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the profile."""

    model: str | None = None
    """a network to build, with random weights"""
    checkpoint: Path | None = None
    """a run folder or a .h5 of its checkpoints/ to take instead"""
    image_size: tuple[int, int] | None = None
    """height and width; 480 640, or those of the checkpoint by default"""
    num_classes: int | None = None
    """number of classes of --model; 19 by default"""
    resize: Literal["bilinear", "matmul"] = "bilinear"
    """how it resizes: matmul is the form for TensorRT"""
    latency: bool = True
    """export it and measure how long it takes on this machine"""
    engine: str = "auto"
    """what runs the export: ENGINE, ENGINE:PRECISION, auto, or all of them but int8"""
    batch_sizes: list[int] = field(default_factory=lambda: [1])
    """batch sizes to measure"""
    repeats: int = 50
    """measured runs of each engine and batch size"""
    json: str | None = None
    """write the profile to this file as JSON; - prints JSON instead of text"""
    overwrite: bool = False
    """replace the file of --json if it exists"""

    def __post_init__(self) -> None:
        if (self.model is None) == (self.checkpoint is None):
            raise ConfigError(
                "neither --model nor --checkpoint is given"
                if self.model is None
                else "both --model and --checkpoint are given",
                expected="exactly one of them",
                next_step="--model ddrnet23_slim, or --checkpoint checkpoints/1120/run_1",
            )
        if self.checkpoint is not None and self.num_classes is not None:
            raise ConfigError(
                "--num_classes is given with --checkpoint, which has its own classes",
                next_step="leave --num_classes out",
            )
        for flag in ("num_classes", "batch_sizes", "repeats"):
            value = getattr(self, flag)
            values = value if isinstance(value, list) else [1 if value is None else value]
            if not values or min(values) < 1:
                given = " ".join(map(str, values)) or "empty"
                raise ConfigError(f"--{flag} is {given}", expected="a whole number of 1 or more")


def run(options: Options) -> None:
    """Counts, measures, prints."""
    import json

    engines = _engines(options.engine) if options.latency else []
    file = None if options.json in (None, STDOUT) else Path(str(options.json))
    if file is not None:
        _check_output(file, overwrite=options.overwrite)
    # JSON on standard output must stay JSON.
    stream = sys.stderr if options.json == STDOUT else sys.stdout

    def say(text: str) -> None:
        print(text, file=stream, flush=True)

    say(f"building {options.model or options.checkpoint} and counting")
    from segkit.evaluation.profile import profile_model  # takes seconds: it brings TensorFlow

    model, labels = _load(options)
    profile = profile_model(model)
    if options.latency:
        rows = _measure(model, labels, options=options, engines=engines, say=say)
        profile = replace(profile, latencies=tuple(rows))
    document = json.dumps({**profile.to_json(), "resize": options.resize}, indent=2)
    print(document if options.json == STDOUT else render(profile, options.resize), flush=True)
    if file is not None:
        with _writing(file):
            beside = file.with_name(f".{file.name}.part")
            beside.write_text(document + "\n", encoding="utf-8")
            beside.replace(file)
        say(f"written to {file}")


def render(profile: Profile, resize: str) -> str:
    """The profile as text for people."""
    height, width = profile.image_size
    macs, activations = profile.macs, profile.activations
    lines = [
        f"{profile.network}, {height}x{width}, {profile.num_classes} classes, "
        f"resize {resize}, {profile.precision}",
        "",
        f"parameters           {profile.parameters.trainable:>12,} trainable, "
        f"{profile.parameters.non_trainable:,} statistics of normalisations",
        f"MACs                 {_giga(macs.total):>12} G  one image",
        f"  convolution        {_giga(macs.convolution):>12} G",
        f"  depthwise          {_giga(macs.depthwise):>12} G",
        f"  matrix product     {_giga(macs.matmul):>12} G",
        f"activations, peak    {activations.peak_bytes / 2**20:>12.1f} MiB",
        f"activations, sum     {activations.sum_bytes / 2**20:>12.1f} MiB",
        "",
        *_wrapped("not counted as MACs: " + ", ".join(profile.uncounted)),
    ]
    if profile.latencies:
        lines += ["", *_latency_table(profile.latencies)]
    return "\n".join(lines)


def _latency_table(rows: tuple[Latency, ...]) -> list[str]:
    lines = [f"{'engine':<20}{'batch':>6}{'p50 ms':>10}{'p90 ms':>10}{'p99 ms':>10}   device"]
    for row in rows:
        figures = "".join(f"{ms:>10.1f}" for ms in (row.p50_ms, row.p90_ms, row.p99_ms))
        lines.append(f"{row.engine:<20}{row.batch_size:>6}{figures}   {row.device}")
    return [
        *lines,
        f"{rows[0].repeats} runs each, in turns. {KERAS}: the bare model, float32 image to logits;",
        "the others: its export, signature serving_default, uint8 image to class ids.",
    ]


def _giga(count: int) -> str:
    """Three significant digits, never an exponent."""
    import numpy as np

    digits = np.format_float_positional(count / 1e9, precision=3, fractional=False, trim="k")
    return digits.rstrip(".") if count else "0"


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width=100, subsequent_indent="  ")


# === Input and output ===


def _engines(engine: str) -> list[VariantName]:
    from segkit.engines.variants import INT8, PRECISIONS, SAVED_MODEL, VariantName

    if engine == ALL_ENGINES:
        every = (VariantName(name, x) for name, known in PRECISIONS.items() for x in known)
        return [name for name in every if name.precision != INT8]
    name = VariantName.parse(SAVED_MODEL if engine == "auto" else engine, flag="--engine")
    if name.precision == INT8:
        raise ConfigError(
            f"--engine is '{engine}', which needs images to find its ranges on",
            expected=f"another precision, or {ALL_ENGINES}",
            next_step="python -m segkit benchmark-export measures int8 as well",
        )
    return [name]


def _check_output(file: Path, *, overwrite: bool) -> None:
    """Refuses a file that could not be written, before minutes are spent on its contents."""
    import tempfile

    if file.exists() and not overwrite:
        raise ConfigError(
            f"--json '{file}' exists", next_step="choose another --json, or add --overwrite"
        )
    with _writing(file):
        if file.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        tempfile.TemporaryFile(dir=file.parent).close()


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise ConfigError(
            f"--json '{file}' cannot be written: {err.strerror}",
            expected="a file in a folder that exists and that this user may write",
        ) from err


def _load(options: Options) -> tuple[Any, LabelMap]:
    """The model for inference and its classes."""
    from segkit.labels import LabelMap
    from segkit.models import build_model
    from segkit.models.checkpoints import load_checkpoint

    if options.checkpoint is not None:
        model, record = load_checkpoint(
            options.checkpoint, image_size=options.image_size, resize=options.resize
        )
        return model, record.labels
    num_classes = options.num_classes or DEFAULT_NUM_CLASSES
    labels = LabelMap.from_names(f"class {id_}" for id_ in range(num_classes))
    assert options.model is not None
    image_size = options.image_size or DEFAULT_IMAGE_SIZE
    return build_model(options.model, image_size, num_classes, resize=options.resize), labels


# === Latency ===


def _measure(
    model: Any,
    labels: LabelMap,
    *,
    options: Options,
    engines: list[VariantName],
    say: Callable[[str], None],
) -> list[Latency]:
    import tempfile

    from segkit.engines.cpu import cpu_name
    from segkit.engines.variants import SAVED_MODEL
    from segkit.evaluation.latency import measure_latency, tensorflow_device

    devices = {KERAS: tensorflow_device()}
    with tempfile.TemporaryDirectory(prefix="segkit-profile-") as folder, ExitStack() as stack:
        say("exporting it to a temporary folder")
        version = _publish(model, labels, Path(folder))
        opened = {}
        for name in engines:
            say(f"opening {name}")
            engine = _open(model, version, name, options=options, say=say)
            if engine is not None:
                stack.callback(engine.close)
                opened[str(name)] = engine
                # TensorFlow alone takes a GPU by itself.
                on_tensorflow = name.engine == SAVED_MODEL
                devices[str(name)] = devices[KERAS] if on_tensorflow else cpu_name()
        rows = []
        for batch_size in options.batch_sizes:
            say(f"measuring {', '.join((KERAS, *opened))}, batch size {batch_size}")
            ways = _ways(model, opened, batch_size)
            rows += measure_latency(
                ways, repeats=options.repeats, batch_size=batch_size, devices=devices
            )
    return rows


def _publish(model: Any, labels: LabelMap, folder: Path) -> Path:
    from segkit.contract import Metadata
    from segkit.export import publish
    from segkit.models import get_network

    metadata = Metadata(
        labels=labels,
        image_size=model.input_shape[1:3],
        architecture=model.name,
        normalization=get_network(model.name).normalization.words,
    )
    return publish(model, metadata, folder)


def _open(
    model: Any, version: Path, name: VariantName, *, options: Options, say: Callable[[str], None]
) -> Any:
    """The engine; None where all were asked for and this one is not to be had here."""
    from segkit.engines import open_variant
    from segkit.export.formats import write_variant

    try:
        return open_variant(version, write_variant(model, version, name))
    except SegkitError as err:
        if options.engine != ALL_ENGINES:
            raise
        say(f"{name} is left out: {err.problem}")
        return None


def _ways(model: Any, engines: dict[str, Any], batch_size: int) -> dict[str, Callable[[], object]]:
    """Engine -> one run of a batch of noise."""
    import numpy as np
    import tensorflow as tf

    from segkit import contract
    from segkit.models.graph import float_core

    shape = (batch_size, *model.input_shape[1:])
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    bare, floats = float_core(model, batch_size=batch_size), tf.constant(image, tf.float32)

    def exported(engine: Any) -> Callable[[], object]:
        return lambda: engine.run(contract.DEFAULT_SIGNATURE, {contract.IMAGE: image})

    return {
        KERAS: lambda: bare(floats).numpy(),
        **{name: exported(engine) for name, engine in engines.items()},
    }
