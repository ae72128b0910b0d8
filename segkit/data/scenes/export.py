"""Writes street scenes to disk: labelled images as a CVAT export, a drive as video and masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from segkit.data.images import encode_mask
from segkit.data.scenes.classes import LABELS
from segkit.data.scenes.textures import Image
from segkit.data.scenes.world import DRIVE_SECONDS, Street
from segkit.errors import DataError

__all__ = ["write_clip", "write_cvat_export"]

FPS = 25
_VAL_EVERY = 8  # every eighth street is for val
_STREETS = 100_000  # more than one export has: the clip's streets are others

Job = TypeVar("Job")


def write_cvat_export(
    folder: Path,
    *,
    num_scenes: int,
    frames_per_scene: int,
    image_size: tuple[int, int] = (288, 384),
    seed: int = 0,
    workers: int | None = None,
) -> None:
    """Writes labelled images as CVAT exports them in the format "Segmentation mask 1.1".

    Every eighth street, at least one, goes to val as a whole: no street is in both.

    Args:
        folder: Where to; must not exist, or be empty.
        num_scenes: How many streets, 2 or more.
        frames_per_scene: Images of each, evenly over its drive.
        image_size: Height and width, pixels.
        seed: Another seed gives other streets.
        workers: Processes that draw; as many as there are cores by default.

    Raises:
        DataError: The folder has something in it.
    """
    if num_scenes < 2:
        raise ValueError(f"num_scenes is {num_scenes}, but train and val need one each")
    _claim(folder)
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True)
    jobs = [
        (folder, index, _street_seed(seed, index), frames_per_scene, image_size)
        for index in range(num_scenes)
    ]
    stems = list(_in_parallel(_write_street, jobs, workers))
    first_val = min(_VAL_EVERY, num_scenes) - 1
    val = set(range(first_val, num_scenes, _VAL_EVERY))
    for name, is_val in (("train", False), ("val", True)):
        chosen = [index for index in range(num_scenes) if (index in val) is is_val]
        lines = [stem for index in chosen for stem in stems[index]]
        (folder / "ImageSets/Segmentation" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    # Last: without it, no reader takes the folder for an export.
    (folder / "labelmap.txt").write_text(LABELS.dump(), encoding="utf-8")


def write_clip(
    path: Path,
    truth: Path,
    *,
    num_frames: int = 250,
    image_size: tuple[int, int] = (360, 480),
    seed: int = 0,
    workers: int | None = None,
) -> None:
    """Writes a drive through a street that no export has, as H.264 at 25 fps, and its true masks.

    Args:
        path: The video to write.
        truth: Folder for the true masks, 000000.png and on, 8-bit class ids; new, or empty.
        num_frames: Length; at most 12 s, 300 frames.
        image_size: Height and width, pixels; both even.
        seed: Another seed gives another street.
        workers: Processes that draw; as many as there are cores by default.

    Raises:
        DataError: The folder for the masks has something in it.
    """
    if not 0 < num_frames <= DRIVE_SECONDS * FPS:
        raise ValueError(f"num_frames is {num_frames}, not 1..{DRIVE_SECONDS * FPS:.0f}")
    _claim(truth)
    street = _street_seed(seed, _STREETS - 1)
    workers = workers or os.cpu_count() or 1
    shares = [range(part, num_frames, workers) for part in range(workers)]
    jobs = [(truth, street, share, image_size) for share in shares]
    parts = list(_in_parallel(_draw_frames, jobs, workers))
    images = [parts[index % workers][index // workers] for index in range(num_frames)]
    temporary = path.with_name(f".{path.name}.part.mp4")
    _encode(temporary, images, image_size)
    os.replace(temporary, path)


def _write_street(job: tuple[Path, int, int, int, tuple[int, int]]) -> list[str]:
    folder, index, seed, count, image_size = job
    cv2.setNumThreads(1)
    street = Street(seed, image_size=image_size)
    palette = LABELS.palette()[:, ::-1]
    stems = []
    for frame in range(count):
        data, mask = street.render_jpeg((frame + 0.5) * DRIVE_SECONDS / count)
        stem = f"street_{index:03}_{frame:03}"
        (folder / "JPEGImages" / f"{stem}.jpg").write_bytes(data)
        cv2.imwrite(str(folder / "SegmentationClass" / f"{stem}.png"), palette[mask])
        stems.append(stem)
    return stems


def _draw_frames(job: tuple[Path, int, Sequence[int], tuple[int, int]]) -> list[Image]:
    truth, seed, frames, image_size = job
    cv2.setNumThreads(1)
    street = Street(seed, image_size=image_size)
    images = []
    for frame in frames:
        image, mask = street.render(frame / FPS)
        (truth / f"{frame:06}.png").write_bytes(encode_mask(mask))
        images.append(image)
    return images


def _encode(path: Path, images: Sequence[Image], image_size: tuple[int, int]) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.height, stream.width = image_size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast"}
        for image in images:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


Result = TypeVar("Result")


def _in_parallel(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None
) -> Iterator[Result]:
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers == 1:
        yield from map(work, jobs)
        return
    # Not fork: the process that asks may have threads of TensorFlow or OpenCV.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, jobs)


def _street_seed(seed: int, index: int) -> int:
    return seed * _STREETS + index


def _claim(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DataError(
            f"'{folder}' is not empty", expected="a new or empty folder to write street scenes into"
        )
