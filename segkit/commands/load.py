"""Loads a model server as cameras do, which never wait for it, and says how it bears that.

Latency counts from the moment a frame was due. Without --poisson, --concurrency or --sweep it is a
constant rate, that of --cameras.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.commands.connection_options import ConnectionOptions
from segkit.commands.json_file import write_json
from segkit.contract import DEFAULT_MODEL_NAME
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.client import Segmenter
    from segkit.client.load import Figures, Plan, Sweep
    from segkit.video.frame import Image

__all__ = ["Options", "run"]

DEFAULT_SERVER = "127.0.0.1:8500"
RAW = "raw"
OUTSTANDING = 256
NUM_IMAGES = 32  # of --images, which are kept in memory
NUM_DRAWN, DRIVE_S = 8, 0.5  # generated ones, and the time between two


@dataclass(frozen=True, kw_only=True)
class Options(ConnectionOptions):
    """Flags of the load."""

    server: str | None = None
    """host:port of the model server's gRPC port; 127.0.0.1:8500 by default"""
    model: Path | None = None
    """an exported version to load in this process instead, as exports/segkit/1"""
    engine: str = "auto"
    """for --model: what runs it"""
    model_name: str = DEFAULT_MODEL_NAME
    """name that the model is served under"""
    label: str | None = None
    """label of the version to ask, as stable; the newest version by default"""
    images: str | None = None
    """a folder or pattern of images, a video or another source; drawn streets by default"""
    wire: str = RAW
    """how images travel: raw, or jpeg:QUALITY"""
    cameras: int | None = None
    """load of so many cameras at --fps; 1 by default"""
    poisson: float | None = None
    """load of so many independent requests a second, on average"""
    concurrency: int | None = None
    """closed loop: so many requests always under way"""
    sweep: bool = False
    """find the largest number of cameras that is held: p99 within 1/fps"""
    max_cameras: int = 1024
    """of --sweep: cameras to try at most"""
    fps: float = 30.0
    """rate of a camera; an answer later than 1/fps is missed"""
    seconds: float = 20.0
    """how long to measure; each step of a --sweep"""
    warmup: float = 2.0
    """seconds of the same load before, not counted"""
    timeout: float = 5.0
    """seconds after which a request is given up"""
    max_outstanding: int | None = None
    """requests under way at most, what is due above that is missed; by default 256, or two for
    each camera if that is more"""
    seed: int = 0
    """of the cameras' phases and of the gaps of --poisson"""
    json: Path | None = None
    """file for the figures, as JSON"""
    plot: Path | None = None
    """file for a plot, as PNG: latency by percentile, or by cameras"""
    overwrite: bool = False
    """replace a file of --json or --plot that exists"""

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of(self, "server", "model")
        _one_of(self, "cameras", "poisson", "concurrency", "sweep")
        for flag in ("cameras", "concurrency", "max_cameras", "max_outstanding"):
            value = getattr(self, flag)
            if value is not None and value < 1:
                raise ConfigError(f"--{flag} is {value}", expected="1 or more")
        for flag in ("poisson", "fps", "seconds", "timeout"):
            value = getattr(self, flag)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"--{flag} is {value}", expected="more than 0")
        if not 0 <= self.warmup < float("inf"):
            raise ConfigError(f"--warmup is {self.warmup}", expected="0 or more seconds")
        if self.model is not None and self.wire != RAW:
            raise ConfigError(
                f"--wire is '{self.wire}', and --model is in this process",
                expected="raw: nothing travels",
            )
        for flag in ("json", "plot"):
            _check_output(getattr(self, flag), flag, overwrite=self.overwrite)


def run(options: Options) -> None:
    """Opens the model, reads or draws images, loads, and prints and writes the figures."""
    from segkit.client.load import INTERRUPTED
    from segkit.video.sources import hide_credentials

    with ExitStack() as stack:
        segmenter, name = _open(options, stack)
        metadata = segmenter.describe()
        height, width = metadata.image_size
        images = _images(options.images, metadata.image_size)
        shown = hide_credentials(options.images) if options.images else "drawn streets"
        print(
            f"{name}: {metadata.architecture}, {width}x{height}; {len(images)} images of "
            f"{shown}, {options.wire}",
            flush=True,
        )
        record: dict[str, Any] = {
            "model": name,
            "image_size": list(metadata.image_size),
            "wire": options.wire,
            "images": shown,
        }
        if options.sweep:
            found = _sweep(options, segmenter, images)
            runs = [step.figures for step in found.steps]
            record |= found.to_json()
            plot = partial(_plot_sweep, found)
        else:
            runs = [_load(options, segmenter, images)]
            record |= runs[0].to_json()
            plot = partial(_plot_run, runs[0])
    _write(options, record, plot if any(figures.requests for figures in runs) else None)
    if any(figures.ended == INTERRUPTED for figures in runs):
        raise KeyboardInterrupt


def _load(options: Options, segmenter: Segmenter, images: list[Image]) -> Figures:
    from segkit.client.load import closed_loop, constant_rate, open_loop, poisson
    from segkit.client.load.report import render

    cameras = options.cameras or 1
    plan = _plan(options, cameras)
    if options.concurrency is not None:
        figures = closed_loop(segmenter, images, options.concurrency, plan)
    else:
        if options.poisson is not None:
            load = f"Poisson, {options.poisson:.4g} a second"
            times = poisson(options.poisson, plan.end, seed=options.seed)
        else:
            load = _cameras(cameras, options.fps)
            times = constant_rate(cameras, options.fps, plan.end, seed=options.seed)
        figures = open_loop(segmenter, images, times, plan, load=load)
    print(render(figures), flush=True)
    return figures


def _sweep(options: Options, segmenter: Segmenter, images: list[Image]) -> Sweep:
    from dataclasses import replace

    from segkit.client.load import Step, constant_rate, open_loop, sweep
    from segkit.client.load.report import STEP_HEADER, conclusion, step_line

    def measure(cameras: int, step: int) -> Figures:
        plan = replace(_plan(options, cameras), stop_when_failed=True)
        times = constant_rate(cameras, options.fps, plan.end, seed=options.seed + step)
        load = _cameras(cameras, options.fps)
        return open_loop(segmenter, images, times, plan, load=load)

    def show(step: Step) -> None:
        print(step_line(step), flush=True)

    print(
        f"{options.seconds:.4g} s a step, {options.warmup:.4g} s before not counted; latencies in "
        f"ms from when each frame was due\n{STEP_HEADER}",
        flush=True,
    )
    found = sweep(measure, most=options.max_cameras, on_step=show)
    print(conclusion(found, fps=options.fps), flush=True)
    return found


def _plan(options: Options, cameras: int = 0) -> Plan:
    from segkit.client.load import Plan

    return Plan(
        seconds=options.seconds,
        warmup_s=options.warmup,
        deadline_s=1 / options.fps,
        timeout_s=options.timeout,
        # One for each camera is what a server may have that answers within the deadline.
        max_outstanding=options.max_outstanding or max(OUTSTANDING, 2 * cameras),
    )


def _cameras(cameras: int, fps: float) -> str:
    return f"{cameras:,} camera{'' if cameras == 1 else 's'} at {fps:.4g} fps"


def _open(options: Options, stack: ExitStack) -> tuple[Segmenter, str]:
    """The model, and what to call it."""
    from segkit.client import LocalSegmenter, RemoteSegmenter, WireFormat

    if options.model is not None:
        local = LocalSegmenter.open(options.model, options.engine)
        return stack.enter_context(local), str(options.model)
    server = options.server or DEFAULT_SERVER
    remote = RemoteSegmenter(
        server,
        options.model_name,
        label=options.label,
        credentials=options.credentials,
        wire=WireFormat.parse(options.wire),
    )
    return stack.enter_context(remote), f"{options.model_name} at {server}"


def _images(text: str | None, size: tuple[int, int]) -> list[Image]:
    """Images at the model's size, so that no run pays for resizing them."""
    from itertools import islice

    from segkit.video.resize import resize_image
    from segkit.video.sources import open_source

    if text is None:
        from segkit.data.scenes import Street

        street = Street(0, image_size=size)
        return [street.render(DRIVE_S * number)[0] for number in range(NUM_DRAWN)]
    with open_source(text, live=False) as source:
        return [resize_image(frame.image, size) for frame in islice(source, NUM_IMAGES)]


def _write(options: Options, record: dict[str, Any], plot: Callable[[Path], None] | None) -> None:
    """Writes what is asked for; no plot where nothing was measured."""
    json = partial(write_json, record=record)
    for flag, path, write in (("json", options.json, json), ("plot", options.plot, plot)):
        if path is None or write is None:
            continue
        try:
            write(path)
        except OSError as err:
            raise ConfigError(
                f"'{path}' cannot be written ({err.strerror})",
                expected="a place that you may write to",
                next_step=f"correct --{flag}; the figures are printed above",
            ) from err
        print(f"wrote {path}", flush=True)


def _plot_run(figures: Figures, path: Path) -> None:
    from segkit.client.load.plot import plot_run

    plot_run(path, figures)


def _plot_sweep(found: Sweep, path: Path) -> None:
    from segkit.client.load.plot import plot_sweep

    plot_sweep(path, found)


def _one_of(options: Options, *flags: str) -> None:
    given = [f"--{flag}" for flag in flags if getattr(options, flag) not in (None, False)]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are given", expected="one of them")


def _check_output(path: Path | None, flag: str, *, overwrite: bool) -> None:
    if path is None:
        return
    if not path.parent.is_dir():
        raise ConfigError(
            f"there is no folder '{path.parent}' for --{flag}",
            expected="a folder that exists",
            next_step=f"make it, or correct --{flag}",
        )
    if path.exists() and not (overwrite and path.is_file()):
        raise ConfigError(
            f"'{path}' exists",
            expected=f"a new file for --{flag}",
            next_step=f"choose another --{flag}, or add --overwrite",
        )
