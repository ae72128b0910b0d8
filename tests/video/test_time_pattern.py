"""The time pattern is read back exactly, or not at all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from time import perf_counter

import av
import cv2
import numpy as np
import pytest

from segkit.video import FileSource, Frame, SegmentedFrame, VideoFileSink, VideoInfo
from segkit.video.time_pattern import Pattern, clock_ms, draw_pattern, read_pattern

SIZES = [(96, 160), (240, 320), (360, 480), (480, 640), (1080, 1920)]
RATE = Fraction(30)
rng = np.random.default_rng(8)


def texture(size: tuple[int, int]) -> np.ndarray:
    """Noise of some coarseness: as hard to code as leaves."""
    height, width = size
    small = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height)))


def expected(index: int) -> Pattern:
    return Pattern(index * 7919 + 3, 1000 + 33 * index)


def drawn(size: tuple[int, int], count: int) -> list[np.ndarray]:
    images = [texture(size) for _ in range(count)]
    for index, image in enumerate(images):
        draw_pattern(image, expected(index).frame_id, expected(index).clock_ms)
    return images


@pytest.mark.parametrize(
    "pattern",
    [Pattern(0, 0), Pattern(2**24 - 1, 2**32 - 1), Pattern(2**23, 1), Pattern(1, 2**31)],
)
def test_the_ends_of_the_ranges_are_read_as_drawn(pattern: Pattern) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    draw_pattern(image, pattern.frame_id, pattern.clock_ms)
    assert read_pattern(image) == pattern
    draw_pattern(image, pattern.frame_id + 2**24, pattern.clock_ms + 2**32)
    assert read_pattern(image) == pattern


def test_the_rest_of_the_image_stays() -> None:
    image = texture((96, 160))
    before = image.copy()
    draw_pattern(image, 5, 6)
    np.testing.assert_array_equal(image[24:], before[24:])
    np.testing.assert_array_equal(image[:, 80:], before[:, 80:])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("quality", [30, 50, 75, 95])
@pytest.mark.parametrize("scale", [0.5, 0.75, 1, 1.6])
def test_it_survives_jpeg_and_another_size(
    size: tuple[int, int], quality: int, scale: float
) -> None:
    for index, image in enumerate(drawn(size, 3)):
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        coded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        wanted = (round(size[1] * scale), round(size[0] * scale))
        assert read_pattern(cv2.resize(coded, wanted)) == expected(index)


@pytest.mark.parametrize("size", SIZES)
def test_it_survives_h264_at_crf_30_and_half_the_size(
    size: tuple[int, int], tmp_path: Path
) -> None:
    count = 4
    path = tmp_path / "coded.mp4"
    options = {"preset": "veryfast", "crf": "30"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for image in drawn(size, count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with FileSource(path) as source:
        for frame in source:
            half = cv2.resize(frame.image, (size[1] // 2, size[0] // 2))
            assert read_pattern(frame.image) == read_pattern(half) == expected(frame.index)
    assert frame.index == count - 1


@pytest.mark.parametrize("size", [(96, 160), (101, 173), (480, 640)])
def test_it_goes_through_a_sink_and_a_source(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    info = VideoInfo(height=size[0], width=size[1], rate=RATE, time_base=1 / RATE)
    with VideoFileSink(path, info) as sink:
        for index, image in enumerate(drawn(size, 40)):
            mask = np.zeros(size, np.uint8)
            sink.write(SegmentedFrame(Frame(image, index, index / RATE), mask, image))
    with FileSource(path) as source:
        read = [read_pattern(frame.image) for frame in source]
    assert read == [expected(index) for index in range(40)]


def test_half_transparent_it_is_still_read() -> None:
    image = drawn((240, 320), 1)[0]
    veiled = cv2.addWeighted(image, 0.5, np.full_like(image, 90), 0.5, 0)
    assert read_pattern(veiled) == expected(0)


def test_two_frames_in_one_are_no_pattern() -> None:
    first, second = drawn((240, 320), 2)
    assert read_pattern(cv2.addWeighted(first, 0.5, second, 0.5, 0)) is None


def test_nothing_is_read_where_nothing_is() -> None:
    for level in (0, 90, 255):
        assert read_pattern(np.full((96, 160, 3), level, np.uint8)) is None
    assert read_pattern(np.zeros((8, 8, 3), np.uint8)) is None
    assert read_pattern(texture((480, 640))) is None


def test_ten_thousand_random_images_hold_no_pattern() -> None:
    """Blocks of pure black and white, of the pattern's own grid, are the hardest."""
    for index in range(10_000):
        blocks = rng.integers(0, 2, (24, 32, 1), np.uint8) * 255
        blocks[0, :8, 0] = np.unpackbits(np.array([0b01100101], np.uint8)) * 255
        image = blocks.repeat(3, axis=2) if index % 2 else rng.integers(0, 256, (24, 32, 3), "B")
        assert read_pattern(image) is None


@pytest.mark.parametrize("damage", [1, 2, 5, 20])
def test_a_damaged_pattern_is_never_another_one(damage: int) -> None:
    image = drawn((24, 32), 1)[0]
    for _ in range(500):
        damaged = image.copy()
        for _ in range(damage):
            row, column = rng.integers(0, 6), rng.integers(0, 16)
            damaged[row, column] = rng.integers(0, 256)
        assert read_pattern(damaged) in (None, expected(0))


def test_the_clock_tells_an_age_and_wraps() -> None:
    now = perf_counter()
    assert Pattern(0, clock_ms(now - 0.25)).age_ms(clock_ms(now)) in (249, 250, 251)
    assert 0 <= Pattern(0, clock_ms()).age_ms() < 1000
    assert Pattern(0, 2**32 - 5).age_ms(10) == 15
