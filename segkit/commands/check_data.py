"""Goes through a labelled set and says all that is wrong with it, before it costs a night.

Prints how often each class occurs, then every kind of fault with the first files that have it and
what to do. Draws random samples with their masks. The exit status is 1 where there are errors.

The set is KIND:PATH with KIND one of cvat, folder, full_semantic, cityscapes, camvid, ade20k, voc;
docs/data.md shows their layouts.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segkit import __version__
from segkit.config import POSITIONAL
from segkit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from segkit.data.full_semantic import FullSemantic
    from segkit.data.reader import Reader

__all__ = ["Options", "check_before_training", "run"]

PLAIN_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to check, and where to put what was found."""

    data: str = field(metadata=POSITIONAL)
    """the set, as KIND:PATH"""
    ignore_label: str | None = None
    """name of a label whose pixels do not count"""
    background_label: str | None = None
    """of a CVAT export: name of the label that becomes class 0"""
    sheet: Path | None = Path("data_check.png")
    """PNG of random samples with their masks drawn; an earlier one is replaced"""
    samples: int = 16
    """how many samples the sheet shows; 0 draws none"""
    seed: int = 0
    """another seed shows other samples"""
    json: Path | None = None
    """write the whole report to this file; an earlier one is replaced"""
    workers: int | None = None
    """threads; one a core by default"""
    progress: Literal["auto", "none", "plain"] = "auto"
    """auto: a bar on a terminal, else plain lines"""

    def __post_init__(self) -> None:
        if self.samples < 0:
            raise ConfigError(f"--samples is {self.samples}", expected="0 or more")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"--workers is {self.workers}", expected="1 or more")


def run(options: Options) -> None:
    """Checks, prints, draws."""
    from segkit.data.checks import check
    from segkit.data.readers import open_reader

    start = time.perf_counter()
    for flag, path in (
        ("sheet", options.sheet if options.samples else None),
        ("json", options.json),
    ):
        if path is not None:
            _refuse_others(path, flag)
    print(f"reading {options.data}", flush=True)
    reader = open_reader(
        options.data, ignore=options.ignore_label, background=options.background_label
    )
    print(f"{len(reader):,} images, {reader.labels.num_classes} classes", flush=True)
    with _progress(len(reader), options.progress) as on_sample:
        report = check(reader, workers=options.workers, on_sample=on_sample)
    print(report.tables(), flush=True)
    if report.findings:
        print(f"\n{report.faults()}\n", flush=True)
    if options.json is not None:
        _write(options.json, report.json().encode())
    if options.sheet is not None and options.samples:
        _draw(reader, options.sheet, options)
    seconds = time.perf_counter() - start
    if report.errors:
        raise DataError(
            f"the set has {report.verdict}, see above ({seconds:.3g} s)",
            next_step="mend them, then check again",
        )
    print(f"{report.verdict} ({seconds:.3g} s)", flush=True)


def check_before_training(dataset: FullSemantic) -> None:
    """Checks a built data set, once for each state of it; prints a line where all is well.

    Raises:
        DataError: It has errors, which are printed.
    """
    from segkit.data.checks import check
    from segkit.data.disk_cache import digest
    from segkit.data.readers.records import read_built

    files = [file for split in dataset.splits for file in dataset.files(split)]
    state = digest(files, dataset.path.absolute(), dataset.labels.dump(), __version__)
    passed = _cache_dir() / "checked" / state
    if passed.exists():
        return
    start = time.perf_counter()
    with _progress(sum(map(dataset.num_examples, dataset.splits)), "auto") as on_sample:
        report = check(read_built(dataset.path), on_sample=on_sample)
    if report.errors:
        print(report.tables() + "\n", flush=True)
    if report.findings:
        print(report.faults(), flush=True)
    if report.errors:
        raise DataError(
            f"the data set '{dataset.path}' has {report.verdict}, see above",
            next_step="mend them and build it again, or train on it as it is with "
            "--check_data false",
        )
    print(
        f"data checked: {sum(part.images for part in report.splits.values()):,} images, "
        f"{report.verdict} ({time.perf_counter() - start:.3g} s; not again until it changes)",
        flush=True,
    )
    try:
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()
    except OSError:
        return  # then it is checked again next time


def _cache_dir() -> Path:
    """Where this user's programs keep what they can make again."""
    own = os.environ.get("SEGKIT_CACHE_DIR")
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(own or f"{shared}/segkit").expanduser()


# === Files ===


def _draw(reader: Reader, path: Path, options: Options) -> None:
    import io

    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from segkit.data.check_report import MADE_BY
    from segkit.data.sample_sheet import draw_samples, random_samples

    samples = random_samples(reader, options.samples, seed=options.seed)
    if not samples:
        return
    info = PngInfo()
    info.add_text("Software", MADE_BY)
    buffer = io.BytesIO()
    sheet = Image.fromarray(draw_samples(samples, reader.labels))
    sheet.save(buffer, format="PNG", pnginfo=info)
    _write(path, buffer.getvalue())
    print(f"samples drawn in {path}: {len(samples)}", flush=True)


def _refuse_others(path: Path, flag: str) -> None:
    """Refuses a file that is there and was not written by an earlier check."""
    from segkit.data.check_report import MADE_BY

    try:
        with path.open("rb") as file:
            known = MADE_BY.encode() in file.read(256)
    except FileNotFoundError:
        return
    except OSError as err:
        raise _not_writable(path, err) from err
    if not known:
        raise ConfigError(
            f"--{flag} is '{path}', which is there and not the {flag} of an earlier check",
            expected="a new file, or an earlier one of check-data",
            next_step=f"choose another --{flag}, or move the file away",
        )


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as err:
        partial.unlink(missing_ok=True)
        raise _not_writable(path, err) from err


def _not_writable(path: Path, err: OSError) -> ConfigError:
    return ConfigError(
        f"'{path}' cannot be written: {err.strerror}",
        expected="a file name in a folder that you may write to",
    )


def _progress(total: int, mode: str) -> AbstractContextManager[Callable[[int], None]]:
    from contextlib import contextmanager

    @contextmanager
    def bar() -> Iterator[Callable[[int], None]]:
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as shown:
            task = shown.add_task("checking", total=total)
            yield lambda count: shown.update(task, completed=count)

    @contextmanager
    def lines() -> Iterator[Callable[[int], None]]:
        last = time.perf_counter()

        def say(count: int) -> None:
            nonlocal last
            if mode != "none" and time.perf_counter() - last >= PLAIN_SECONDS:
                last = time.perf_counter()
                print(f"image {count:,} of {total:,} ({count / total:.0%})", flush=True)

        yield say

    return bar() if mode == "auto" and sys.stderr.isatty() else lines()
