from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from segkit.data import disk_cache
from segkit.data.disk_cache import DiskCache, digest

COUNT = 5


def made() -> tf.data.Dataset:
    """Images of different sizes that hold their number."""

    def generate() -> Iterator[dict[str, np.ndarray]]:
        for i in range(COUNT):
            rng = np.random.default_rng(i)
            shape = (4 + i, 9 - i)
            yield {
                "image": rng.integers(0, 256, (*shape, 3), np.uint8),
                "mask": np.full(shape, i, np.uint8),
            }

    signature = {
        "image": tf.TensorSpec((None, None, 3), tf.uint8),
        "mask": tf.TensorSpec((None, None), tf.uint8),
    }
    return tf.data.Dataset.from_generator(generate, output_signature=signature)


def contents(cache: DiskCache) -> list[tuple[np.ndarray, np.ndarray]]:
    loaded = cache.numbers().map(cache.load)
    return [(x["image"], x["mask"]) for x in loaded.as_numpy_iterator()]


def assert_full(cache: DiskCache) -> None:
    for (image, mask), expected in zip(contents(cache), made().as_numpy_iterator(), strict=True):
        assert np.array_equal(image, expected["image"])
        assert np.array_equal(mask, expected["mask"])


def test_what_was_written_is_read(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "new", "train", "a")
    assert not cache.is_complete
    cache.fill(made)
    assert cache.is_complete
    assert_full(cache)


def test_any_order_can_be_read(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, "train", "a")
    cache.fill(made)
    for number in (3, 0, 4):
        assert np.unique(cache.load(tf.constant(number, tf.int64))["mask"]).tolist() == [number]


def test_a_complete_cache_is_not_written_again(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, "train", "a")
    cache.fill(made)
    cache.fill(lambda: pytest.fail("written again"))


def test_caches_of_other_states_are_removed_and_those_of_other_splits_stay(tmp_path: Path) -> None:
    for name, state in (("train", "a"), ("val", "a"), ("train.1of2", "a"), ("train", "b")):
        DiskCache(tmp_path, name, state).fill(made)
    there = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert there == ["train-b", "train.1of2-a", "val-a"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_nothing_is_left_where_writing_stops(
    stop: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = DiskCache(tmp_path, "train", "a")

    def stopped(*args: Any) -> None:
        assert list(tmp_path.glob("*/0"))  # some of it has been written
        raise stop

    with monkeypatch.context() as patched, pytest.raises(type(stop)):
        patched.setattr(disk_cache.np, "save", stopped)
        cache.fill(made)
    assert not cache.is_complete
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    cache.fill(made)
    assert_full(cache)


def test_what_a_killed_process_left_is_not_used(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, "train", "a")
    left = tmp_path / "train-a.partial"
    left.mkdir()
    (left / "0").write_bytes(b"half")
    (left / "99").write_bytes(b"half")
    assert not cache.is_complete
    cache.fill(made)
    assert_full(cache)
    assert not left.exists()
    assert not (cache.path / "99").exists()


def test_a_digest_changes_with_the_files(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("one")
    before = digest([file])
    assert digest([file]) == before
    assert digest([file], "more") != before
    file.write_text("three")
    assert digest([file]) != before
