"""Runs the whole line, from a CVAT export to the overlay video, by the commands a user would type.

Without --data it generates street scenes and measures the result against the true masks of a
drive that the network never saw.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.errors import ConfigError, SegkitError

if TYPE_CHECKING:
    from segkit.evaluation.metrics import ConfusionMatrix
    from segkit.labels import LabelMap

__all__ = ["Options", "run"]

REPOSITORY = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 120.0
MOMENTS = 4


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the demo. The defaults take under 8 minutes on 2 CPU cores."""

    output: Path = Path("demo_output")
    """each run makes a numbered folder in it"""
    data: Path | None = None
    """your own CVAT export, instead of generated streets"""
    video: Path | None = None
    """your own clip, instead of a generated drive"""
    image_size: tuple[int, int] = (240, 320)
    """height and width that the network sees"""
    epoch: int = 13
    """epochs of training"""
    batch_size: int = 8
    """images a step"""
    lr: float = 0.004
    """learning rate"""
    num_scenes: int = 64
    """generated streets"""
    frames_per_scene: int = 10
    """labelled images of each"""
    clip_frames: int = 200
    """frames of the generated drive, at 25 fps"""
    min_mean_iou: float = 0.8
    """below this on the generated drive, the demo has failed"""
    seed: int = 1
    """of streets and training"""

    def __post_init__(self) -> None:
        if (self.data is None) != (self.video is None):
            raise ConfigError(
                "--data and --video belong together",
                expected="your labels and your clip, or neither: a network that learnt from one "
                "kind of street says nothing about another",
                next_step="make demo DATA=path/to/cvat-export VIDEO=clip.mp4",
            )
        for flag in ("data", "video"):
            path = getattr(self, flag)
            if path is not None and not path.exists():
                raise ConfigError(
                    f"--{flag}: '{path}' does not exist", expected="the path of a file or folder"
                )


@dataclass(frozen=True)
class _Folder:
    """Where everything of one demo lies."""

    root: Path

    cvat = property(lambda self: self.root / "cvat_export")
    manual = property(lambda self: self.root / "manual")
    tfds = property(lambda self: self.root / "tfds")
    checkpoints = property(lambda self: self.root / "checkpoints")
    exports = property(lambda self: self.root / "exports")
    clip = property(lambda self: self.root / "clip.mp4")
    truth = property(lambda self: self.root / "truth")
    masks = property(lambda self: self.root / "masks")
    overlay = property(lambda self: self.root / "overlay.mp4")
    report = property(lambda self: self.root / "stream.json")
    sheet = property(lambda self: self.root / "contact_sheet.png")
    summary = property(lambda self: self.root / "summary.json")
    server_log = property(lambda self: self.root / "server.log")


def run(options: Options) -> None:
    """Runs the line and reports; fails where the network is worse than it must be."""
    started = time.perf_counter()
    folder = _Folder(_numbered(options.output))
    data, clip = options.data or folder.cvat, options.video or folder.clip
    if options.data is None:
        _generate(options, folder)
    _train_and_export(options, folder, data)
    with _server(folder) as address:
        _script(
            "predict_video.py",
            *("--video", clip, "--output", folder.overlay, "--server", address),
            *("--save_masks", folder.masks, "--report", folder.report),
        )
    truth = folder.truth if options.video is None else None
    _finish(options, folder, clip, truth, seconds=time.perf_counter() - started)


def _generate(options: Options, folder: _Folder) -> None:
    from segkit.data.scenes import write_clip, write_cvat_export

    count = options.num_scenes * options.frames_per_scene
    _say(f"drawing {options.num_scenes} streets, {count} labelled images, and one more drive")
    started = time.perf_counter()
    write_cvat_export(
        folder.cvat,
        num_scenes=options.num_scenes,
        frames_per_scene=options.frames_per_scene,
        seed=options.seed,
    )
    write_clip(folder.clip, folder.truth, num_frames=options.clip_frames, seed=options.seed)
    print(f"  {time.perf_counter() - started:.1f} s", flush=True)


def _train_and_export(options: Options, folder: _Folder, data: Path) -> None:
    folder.manual.mkdir()
    archive = folder.manual / "full_semantic.zip"
    _segkit("prepare", "--data", f"cvat:{data}", "--output", archive)
    _run(
        ["tfds", "build", "--manual_dir", folder.manual, "--data_dir", folder.tfds],
        program=[str(Path(sys.executable).with_name("tfds"))],
        folder=REPOSITORY / "datasets" / "full_semantic",
        quiet=True,
    )
    height, width = options.image_size
    _script(
        "train.py",
        *("--dataset_dir", folder.tfds, "--checkpoint_dir", folder.checkpoints),
        *("--model_name", "demo", "--image_size", height, width),
        *("--epoch", options.epoch, "--batch_size", options.batch_size, "--lr", options.lr),
        # Milder than the published range, which pays over hundreds of epochs, not over a dozen.
        *("--min_scale", 0.75, "--max_scale", 1.5, "--seed", options.seed),
    )
    checkpoint = folder.checkpoints / "demo" / "run_1"
    _segkit("export", "--checkpoint", checkpoint, "--model_base_path", folder.exports)


@contextmanager
def _server(folder: _Folder) -> Iterator[str]:
    """The embedded server over the export, on a free port; its address."""
    argv = ["serve", "--model_base_path", str(folder.exports), "--port", "0"]
    _say(f"python -m segkit {shlex.join(argv)}")
    with folder.server_log.open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "segkit", *argv], stdout=log, stderr=log, cwd=REPOSITORY
        )
    try:
        yield _wait_for_address(server, folder.server_log)
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for_address(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        ready = re.search(r"serving .* on (\S+:\d+)", log.read_text(encoding="utf-8"))
        if ready:
            print(f"  {ready.group()}", flush=True)
            return ready.group(1)
        time.sleep(0.1)
    raise SegkitError(
        f"the server did not start: {log.read_text(encoding='utf-8').strip()}",
        expected=f"a line 'serving ...' in {log} within {START_SECONDS:.0f} s",
    )


def _finish(
    options: Options, folder: _Folder, clip: Path, truth: Path | None, *, seconds: float
) -> None:
    """Measures, draws the contact sheet, writes summary.json and prints the figures."""
    from segkit.models.checkpoints import read_record

    record = read_record(folder.checkpoints / "demo" / "run_1")
    stream: dict[str, Any] = json.loads(folder.report.read_text(encoding="utf-8"))
    matrix = _measure(folder, truth, record.labels) if truth else None
    score = matrix.mean_iou if matrix else record.val_mean_iou or float("nan")
    score_name = "mean IoU on the unseen drive" if matrix else "val mean IoU"
    _draw(options, folder, clip, truth, record.labels, matrix, stream, score)
    summary = {
        "mean_iou": score,
        "measured_on": score_name,
        "class_iou": _by_name(record.labels, matrix) if matrix else None,
        "val_mean_iou": record.val_mean_iou,
        "stream": stream,
        "seconds": seconds,
    }
    folder.summary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if matrix:
        for name, iou in _by_name(record.labels, matrix).items():
            print(f"  {name:<12} IoU {iou:.3f}")
    print(
        f"\n{score_name} {score:.3f}   {stream['fps']:.1f} fps   "
        f"p50 {stream['latency_ms']['p50']:.1f} ms   p99 {stream['latency_ms']['p99']:.1f} ms   "
        f"all in {seconds / 60:.1f} minutes\n"
        f"  contact sheet  {folder.sheet}\n"
        f"  overlay video  {folder.overlay}\n"
        f"  figures        {folder.summary}\n"
        f"  checkpoints    {folder.checkpoints}\n"
        f"  exports        {folder.exports}",
        flush=True,
    )
    if matrix and score < options.min_mean_iou:
        raise SegkitError(
            f"the mean IoU on the unseen drive is {score:.3f}",
            expected=f"{options.min_mean_iou:.2f} or more",
            next_step="train longer with --epoch",
        )


def _measure(folder: _Folder, truth: Path, labels: LabelMap) -> ConfusionMatrix:
    from segkit.evaluation.metrics import ConfusionMatrix

    matrix = ConfusionMatrix(labels.num_classes)
    for path in sorted(truth.iterdir()):
        matrix.update(_read_mask(path), _read_mask(folder.masks / path.name))
    return matrix


def _by_name(labels: LabelMap, matrix: ConfusionMatrix) -> dict[str, float]:
    """IoU of the classes that are in truth or prediction; JSON has no nan."""
    named = zip(labels.names, matrix.class_iou.tolist(), strict=True)
    return {name: iou for name, iou in named if math.isfinite(iou)}


def _draw(
    options: Options,
    folder: _Folder,
    clip: Path,
    truth: Path | None,
    labels: LabelMap,
    matrix: ConfusionMatrix | None,
    stream: dict[str, Any],
    score: float,
) -> None:
    from segkit.evaluation.contact_sheet import Moment, write_contact_sheet
    from segkit.video import FileSource

    names = sorted(path.name for path in folder.masks.iterdir())
    wanted = {round((i + 0.5) * len(names) / MOMENTS) for i in range(MOMENTS)} & set(
        range(len(names))
    )
    with FileSource(clip) as source, FileSource(folder.overlay) as overlay:
        moments = [
            Moment(
                time_s=float(frame.time_s),
                image=frame.image,
                prediction=_read_mask(folder.masks / names[frame.index]),
                overlay=drawn.image,
                truth=_read_mask(truth / names[frame.index]) if truth else None,
            )
            for frame, drawn in zip(source, overlay, strict=False)
            if frame.index in wanted
        ]
    what = "generated streets, a drive through one that it never saw" if truth else clip.name
    write_contact_sheet(
        folder.sheet,
        moments,
        labels,
        title="From labels to live video",
        subtitle=f"DDRNet-23-slim at {options.image_size[0]}x{options.image_size[1]}, "
        f"{options.epoch} epochs from random weights on this machine's CPU; {what}",
        figures=[
            (f"{score:.3f}", "mean IoU" if truth else "val mean IoU"),
            (f"{stream['fps']:.1f}", "frames a second"),
            (f"{stream['latency_ms']['p50']:.0f} ms", "latency p50"),
            (f"{stream['latency_ms']['p99']:.0f} ms", "latency p99"),
        ],
        class_iou=matrix.class_iou if matrix else None,
    )


def _read_mask(path: Path) -> Any:
    """A mask's class ids from an index or palette PNG."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)


def _segkit(command: str, *arguments: object) -> None:
    _run(["python", "-m", "segkit", command, *arguments], program=[sys.executable])


def _script(name: str, *arguments: object) -> None:
    _run(["python", name, *arguments], program=[sys.executable])


def _run(
    words: Sequence[object],
    *,
    program: list[str],
    folder: Path = REPOSITORY,
    quiet: bool = False,
) -> None:
    """Prints a command as a user would type it, runs it, and prints its time."""
    arguments = [str(word.resolve() if isinstance(word, Path) else word) for word in words]
    where = f"(cd {folder.relative_to(REPOSITORY)}) " if folder != REPOSITORY else ""
    _say(where + shlex.join(arguments))
    started = time.perf_counter()
    reply = subprocess.run(
        [*program, *arguments[1:]],
        cwd=folder,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
    )
    if reply.returncode:
        raise SegkitError(
            f"this step failed with exit status {reply.returncode}: {shlex.join(arguments)}",
            expected=(reply.stdout or "").strip()[-2000:] or "what it printed above says why",
        )
    print(f"  {time.perf_counter() - started:.1f} s", flush=True)


def _say(line: str) -> None:
    print(f"\n$ {line}" if line.startswith(("python", "(cd")) else f"\n{line}", flush=True)


def _numbered(output: Path) -> Path:
    number = 1
    while True:
        path = output / str(number)
        try:
            path.mkdir(parents=True)
            return path.resolve()
        except FileExistsError:
            number += 1
        except OSError as err:
            raise ConfigError(
                f"'{path}' cannot be made: {err.strerror}", expected="a folder to write into"
            ) from err
