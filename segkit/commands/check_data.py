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
from typing import TYPE_CHECKING, Any, Literal

from segkit.config import POSITIONAL
from segkit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from segkit.data.checks import Report
    from segkit.data.full_semantic import FullSemantic
    from segkit.data.reader import Finding

__all__ = ["Options", "check_before_training", "render", "run"]

SHOWN = 10
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
    """PNG of random samples with their masks drawn; replaced if it exists"""
    samples: int = 16
    """how many samples the sheet shows; 0 draws none"""
    seed: int = 0
    """another seed shows other samples"""
    json: Path | None = None
    """write the whole report to this file; replaced if it exists"""
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
    print(f"reading {options.data}", flush=True)
    reader = open_reader(
        options.data, ignore=options.ignore_label, background=options.background_label
    )
    print(f"{len(reader):,} images, {reader.labels.num_classes} classes", flush=True)
    with _progress(len(reader), options.progress) as on_sample:
        report = check(reader, workers=options.workers, on_sample=on_sample)
    print(render(report), flush=True)
    if options.json is not None:
        _write(options.json, _document(report).encode())
    if options.sheet is not None and options.samples:
        _draw(reader, options)
    seconds = time.perf_counter() - start
    warnings = f"{len(report.warnings):,} warnings" if report.warnings else "no warnings"
    if report.errors:
        raise DataError(
            f"the set has {len(report.errors):,} errors and {warnings}, see above "
            f"({seconds:.3g} s)",
            next_step="mend them, then check again",
        )
    print(f"no errors, {warnings} ({seconds:.3g} s)")


def check_before_training(dataset: FullSemantic) -> None:
    """Checks a built data set, once for each state of it; prints a line where all is well.

    Raises:
        DataError: It has errors, which are printed.
    """
    from segkit.data.checks import check
    from segkit.data.disk_cache import digest
    from segkit.data.readers.records import read_built

    files = [file for split in dataset.splits for file in dataset.files(split)]
    state = digest(files, dataset.path.absolute(), dataset.labels.dump())
    passed = _cache_dir() / "checked" / state
    if passed.exists():
        return
    start = time.perf_counter()
    with _progress(sum(map(dataset.num_examples, dataset.splits)), "auto") as on_sample:
        report = check(read_built(dataset.path), on_sample=on_sample)
    # Warnings alone do not need the table too.
    if report.findings:
        print(render(report) if report.errors else "\n".join(_finding_lines(report)).strip())
    if report.errors:
        raise DataError(
            f"the data set '{dataset.path}' has {len(report.errors):,} errors, see above",
            next_step="mend them and build it again, or train on it as it is with "
            "--check_data false",
        )
    count = sum(report.images.values())
    warnings = f"{len(report.warnings)} warnings" if report.warnings else "no warnings"
    print(
        f"data checked: {count:,} images, no errors, {warnings} "
        f"({time.perf_counter() - start:.3g} s; not again until it changes)",
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


# === Text ===


def render(report: Report) -> str:
    """The report for people: how often each class occurs, then what is wrong."""
    return "\n".join([*_class_table(report), *_size_line(report), *_finding_lines(report)])


def _class_table(report: Report) -> Iterator[str]:
    splits = sorted(report.images, key=lambda split: (split is None, str(split)))
    width = max(len(name) for name in (*report.labels.names, "ignored"))
    named = [str(split) if split else "all" for split in splits]
    counts = "  ".join(
        f"{name} {report.images[split]:,}" for name, split in zip(named, splits, strict=True)
    )
    yield f"images: {counts}"
    yield "  id  class".ljust(width + 6) + "".join(f"{name:>20}" for name in named)
    yield " " * (width + 6) + "".join(f"{'% pixels':>11}{'% img':>9}" for _ in named)
    shown = [(id_, name) for id_, name in enumerate(report.labels.names)]
    for id_, name in [*shown, (255, "ignored")]:
        cells = ""
        for split in splits:
            pixels, images = report.pixels.get(split), report.images_with.get(split)
            if pixels is None or images is None:
                cells += f"{'-':>11}{'-':>9}"
                continue
            # Shares of the classes are of what is labelled; the ignored share is of everything.
            total = pixels.sum() if id_ == 255 else pixels[:255].sum()
            share = 100 * pixels[id_] / max(total, 1)
            cells += f"{share:>11.3g}{100 * images[id_] / report.images[split]:>9.3g}"
        yield f"{id_:>4}  {name:<{width}}{cells}"


def _size_line(report: Report) -> Iterator[str]:
    sizes = sorted(report.sizes.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{height}x{width} ({count:,})" for (height, width), count in sizes[:5])
    more = f" and {len(sizes) - 5} more" if len(sizes) > 5 else ""
    if shown:
        yield f"sizes, height x width: {shown}{more}"


def _finding_lines(report: Report) -> Iterator[str]:
    from segkit.data.checks import WARNINGS

    for kind in dict.fromkeys(finding.kind for finding in report.findings):
        same = [finding for finding in report.findings if finding.kind == kind]
        level = "warning" if kind in WARNINGS else "error"
        yield f"\n{level}: {kind} ({len(same):,})"
        yield from (f"  {_line(finding)}" for finding in same[:SHOWN])
        if len(same) > SHOWN:
            yield f"  and {len(same) - SHOWN:,} more"
        for next_step in dict.fromkeys(finding.next_step for finding in same[:SHOWN]):
            if next_step:
                yield f"  next: {next_step}"
    yield ""


def _line(finding: Finding) -> str:
    named = finding.file in finding.problem
    return finding.problem if named else f"{finding.file}: {finding.problem}"


# === Files ===


def _document(report: Report) -> str:
    import json

    def by_class(counts: Any) -> dict[str, int]:
        named = zip(report.labels.names, counts, strict=False)
        return {name: int(count) for name, count in named} | {"ignored": int(counts[255])}

    def rows(findings: Sequence[Finding]) -> list[dict[str, str]]:
        return [finding._asdict() for finding in findings]

    document = {
        "images": {str(split): count for split, count in report.images.items()},
        "pixels": {str(split): by_class(counts) for split, counts in report.pixels.items()},
        "images_with": {str(x): by_class(counts) for x, counts in report.images_with.items()},
        "sizes": {f"{height}x{width}": count for (height, width), count in report.sizes.items()},
        "errors": rows(report.errors),
        "warnings": rows(report.warnings),
    }
    return json.dumps(document, indent=2) + "\n"


def _draw(reader: Any, options: Options) -> None:
    import io

    from PIL import Image

    from segkit.data.sample_sheet import draw_samples, random_samples

    samples = random_samples(reader, options.samples, seed=options.seed)
    if not samples:
        return
    buffer = io.BytesIO()
    Image.fromarray(draw_samples(samples, reader.labels)).save(buffer, format="PNG")
    assert options.sheet is not None
    _write(options.sheet, buffer.getvalue())
    print(f"{len(samples)} samples are drawn in {options.sheet}")


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as err:
        partial.unlink(missing_ok=True)
        raise ConfigError(
            f"'{path}' cannot be written: {err.strerror}",
            expected="a file name in a folder that you may write to",
        ) from err


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
