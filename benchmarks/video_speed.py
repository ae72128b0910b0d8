"""predict_video.py as a whole beside the engine alone: frames a second on the same cores.

    engine            the engine in this process, one frame after another, decoded before
    no video          predict_video.py through the embedded server, writing JSON lines alone
    H.264             the same, writing the overlay as well

The three take turns. Wanted: 90 % of the engine's frames a second without video, 80 % with, and 8
times what system A's loop does (244 ms a frame on such cores; it calls Keras's predict per frame).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from segkit.client import LocalSegmenter
from segkit.engines.cpu import cpu_name
from segkit.video import FileSource

REPOSITORY = Path(__file__).resolve().parent.parent
SYSTEM_A_MS = 244.0
READY = "serving "


def engine_fps(segmenter: LocalSegmenter, frames: list) -> float:
    begin = time.perf_counter()
    for frame in frames:
        segmenter.segment(frame.image[None])
    return len(frames) / (time.perf_counter() - begin)


def program_fps(video: Path, server: str, folder: Path, *flags: str) -> float:
    report = folder / "report.json"
    command = [sys.executable, "predict_video.py", "--video", str(video), "--server", server]
    outputs = ["--json", str(folder / "lines"), "--report", str(report), "--overwrite"]
    quiet = ["--progress", "none"]
    subprocess.run([*command, *outputs, *quiet, *flags], cwd=REPOSITORY, check=True)
    return float(json.loads(report.read_text())["fps"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--version", type=Path, required=True, help="folder of an exported version")
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/video_speed.json"))
    options = parser.parse_args()

    with FileSource(options.video) as source:
        frames = list(source)
    serve = [sys.executable, "-m", "segkit", "serve", "--port", "0", "--engine", options.engine]
    with (
        tempfile.TemporaryDirectory() as name,
        subprocess.Popen(
            [*serve, "--model_base_path", str(options.version.parent)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
        LocalSegmenter.open(options.version, options.engine) as segmenter,
    ):
        assert server.stdout is not None
        ready = next(line for line in server.stdout if line.startswith(READY))
        address = ready.partition(" on ")[2].split()[0]
        folder = Path(name)
        passes: dict[str, list[float]] = {"engine": [], "no video": [], "H.264": []}
        try:
            for _ in range(options.rounds):
                passes["engine"].append(engine_fps(segmenter, frames))
                passes["no video"].append(program_fps(options.video, address, folder))
                overlay = ("--output", str(folder / "overlay.mp4"))
                passes["H.264"].append(program_fps(options.video, address, folder, *overlay))
        finally:
            server.terminate()
            server.wait()  # before its output is closed
    fps = {way: median(values) for way, values in passes.items()}
    for way, value in fps.items():
        print(
            f"{way:<10} {value:6.2f} fps   {value / fps['engine']:.0%} of the engine   "
            f"{value * SYSTEM_A_MS / 1e3:.1f} times system A"
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    record = {"machine": cpu_name(), "python": platform.python_version(), "fps": passes}
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return (
        0 if fps["no video"] >= 0.9 * fps["engine"] and fps["H.264"] >= 0.8 * fps["engine"] else 1
    )


if __name__ == "__main__":
    raise SystemExit(main())
