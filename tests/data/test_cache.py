from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import tensorflow as tf
from tiny_sets import jpeg, png
from tiny_tfds import build

from segkit.data import cache, disk_cache
from segkit.data.archive import ARCHIVE_NAME
from segkit.data.cache import open_examples
from segkit.data.full_semantic import FullSemantic, open_dataset
from segkit.data.pipeline import Examples, batch_stems, train_batches, val_batches
from segkit.data.recipe import make_augmentation
from segkit.errors import ConfigError

COUNT = 13  # train images; image i has the mask i
DECODED = sum(4 * (20 + i) * (30 - i) for i in range(COUNT))
SIZE = (16, 24)
KINDS = ("none", "memory", "disk")
MANY = 1 << 40


def built(folder: Path, *, first_seed: int = 0) -> FullSemantic:
    """13 train and 3 val images of different sizes, in two files each."""
    folder.mkdir(parents=True, exist_ok=True)
    train, val = [f"t{i}" for i in range(COUNT)], ["v0", "v1", "v2"]
    with ZipFile(folder / ARCHIVE_NAME, "w") as archive:
        archive.writestr("labelmap.txt", "".join(f"c{i}:{i},0,0::\n" for i in range(COUNT)))
        archive.writestr("train.txt", "\n".join(train))
        archive.writestr("val.txt", "\n".join(val))
        for stem in train + val:
            i = int(stem[1:])
            size = (20 + i, 30 - i)
            archive.writestr(f"rgb/{stem}.jpg", jpeg(first_seed + i, size))
            archive.writestr(f"gt/{stem}.png", png(np.full(size, i)))
    build(folder, folder / "tfds", files=2)
    return open_dataset(folder / "tfds")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> FullSemantic:
    return built(tmp_path_factory.mktemp("set"))


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Says how much memory and disk are free."""

    def say(memory: int, disk: int) -> None:
        monkeypatch.setattr(cache, "free_memory", lambda: memory)
        monkeypatch.setattr(cache, "free_disk", lambda folder: disk)

    say(MANY, MANY)
    return say


def opened(dataset: FullSemantic, cache_dir: Path, **options: Any) -> Examples:
    return open_examples(dataset, ["train"], cache_dir=cache_dir, **options)[0]


def batches(examples: Examples, count: int, seed: int = 1, **options: Any) -> list[bytes]:
    made = train_batches(
        examples,
        image_size=SIZE,
        batch_size=4,
        augmentation=make_augmentation(["default"], SIZE, crop_size=SIZE),
        seed=seed,
        **options,
    )
    return [image.numpy().tobytes() + mask.numpy().tobytes() for image, mask in made.take(count)]


def numbers(examples: Examples, count: int, **options: Any) -> list[int]:
    """Which images come, one after another."""
    made = train_batches(
        examples, image_size=SIZE, batch_size=1, augmentation=(), seed=1, **options
    )
    return [int(mask[0, 0, 0]) for _, mask in made.take(count)]


@pytest.fixture(scope="module")
def first_twenty(dataset: FullSemantic) -> list[bytes]:
    return batches(open_examples(dataset, ["train"], cache="none")[0], 20)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_20_batches_with_every_cache(
    kind: cache.Kind, dataset: FullSemantic, first_twenty: list[bytes], tmp_path: Path
) -> None:
    for _ in range(2):  # on disk, the second finds what the first wrote
        examples = opened(dataset, tmp_path, cache=kind)
        assert batches(examples, 20) == first_twenty
    assert not set(batches(examples, 20, seed=2)) & set(first_twenty)
    assert len(set(first_twenty)) == 20


@pytest.mark.parametrize("kind", KINDS)
def test_every_epoch_has_every_example_once(
    kind: cache.Kind, dataset: FullSemantic, tmp_path: Path
) -> None:
    epochs = np.reshape(numbers(opened(dataset, tmp_path, cache=kind), 3 * COUNT), (3, COUNT))
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3


@pytest.fixture(params=[*KINDS, "part by part"])
def train_examples(
    request: Any, dataset: FullSemantic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Examples:
    """Of every kind."""
    if request.param == "part by part":
        monkeypatch.setattr(cache, "_SHUFFLE_BYTES", dataset.num_bytes("train") // 3)
        return open_examples(dataset, ["train"], cache="none")[0]
    return opened(dataset, tmp_path, cache=request.param)


@pytest.mark.parametrize("first_step", [1, 7, 100])
def test_training_goes_on_at_any_step(train_examples: Examples, first_step: int) -> None:
    expected = batches(train_examples, first_step + 6)[first_step:]
    assert batches(train_examples, 6, first_step=first_step) == expected


def test_the_images_of_a_batch_are_named(train_examples: Examples) -> None:
    for step in (0, 5, 17):
        made = train_batches(
            train_examples,
            image_size=SIZE,
            batch_size=4,
            augmentation=(),
            seed=1,
            first_step=step,
        )
        (mask,) = (mask.numpy() for _, mask in made.take(1))
        expected = [f"t{number}" for number in mask[:, 0, 0]]
        assert batch_stems(train_examples, batch_size=4, seed=1, step=step) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_val_batches_are_the_same_with_every_cache(
    kind: cache.Kind, dataset: FullSemantic, tmp_path: Path
) -> None:
    (val,) = open_examples(dataset, ["val"], cache=kind, cache_dir=tmp_path)
    expected = val_batches(dataset.examples("val"), image_size=SIZE, batch_size=2)
    for _ in range(2):
        found = val_batches(val.in_order(), image_size=SIZE, batch_size=2)
        for left, right in zip(found, expected, strict=True):
            assert all(np.array_equal(*pair) for pair in zip(left, right, strict=True))


def test_a_set_too_large_to_shuffle_as_a_whole_is_shuffled_part_by_part(
    dataset: FullSemantic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_SHUFFLE_BYTES", dataset.num_bytes("train") // 3)
    (examples,) = open_examples(dataset, ["train"], cache="none")
    first = numbers(examples, 3 * COUNT)
    assert first == numbers(examples, 3 * COUNT)
    epochs = np.reshape(first, (3, COUNT)).tolist()
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert batches(examples, 5) == batches(examples, 5)
    assert not set(batches(examples, 5)) & set(batches(examples, 5, seed=2))


@pytest.mark.parametrize("count", [2, 4])
def test_the_parts_of_the_workers_are_the_batch_of_one_alone(
    train_examples: Examples, count: int
) -> None:
    def pairs(**options: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        augmentation = make_augmentation(["default"], SIZE, crop_size=SIZE)
        made = train_batches(
            train_examples,
            image_size=SIZE,
            batch_size=4,
            augmentation=augmentation,
            seed=1,
            first_step=2,
            **options,
        )
        return list(made.take(6).as_numpy_iterator())

    parts = [pairs(share=(index, count)) for index in range(count)]
    for whole, *own in zip(pairs(), *parts, strict=True):
        for found, expected in zip(zip(*own, strict=True), whole, strict=True):
            np.testing.assert_array_equal(np.concatenate(found), expected)


def test_a_worker_decodes_its_own_part_alone() -> None:
    loaded: list[int] = []

    def load(number: tf.Tensor) -> dict[str, tf.Tensor]:
        def note(value: tf.Tensor) -> tf.Tensor:
            loaded.append(int(value))
            return value

        grey = tf.cast(tf.py_function(note, [number], tf.int64), tf.uint8)
        return {"image": tf.fill([9, 9, 3], grey), "mask": tf.fill([9, 9], grey)}

    examples = Examples(tf.data.Dataset.range(8 * 30), load)
    options: dict[str, Any] = {"image_size": (9, 9), "batch_size": 8, "augmentation": (), "seed": 1}
    others = train_batches(examples, share=(0, 2), **options).take(30)
    theirs = {int(mask[0, 0]) for _, masks in others for mask in masks}
    loaded.clear()
    assert len(list(train_batches(examples, share=(1, 2), **options).take(3))) == 3
    assert len(theirs) == 4 * 30
    assert len(loaded) >= 4 * 3
    assert not theirs & set(loaded)


def test_without_order_every_example_still_comes_once(
    dataset: FullSemantic, tmp_path: Path
) -> None:
    examples = opened(dataset, tmp_path, cache="memory")
    assert sorted(numbers(examples, COUNT, deterministic=False)) == list(range(COUNT))


@pytest.mark.parametrize(
    ("memory", "disk", "line"),
    [
        (2 * DECODED, MANY, "cache: memory, {size} of {twice} GiB free"),
        (2 * DECODED - 1, 2 * DECODED, "cache: disk, {size} of {twice} GiB free, in '"),
        (2 * DECODED - 1, 2 * DECODED - 1, "cache: none, the decoded images take {size} GiB, more"),
        (0, MANY, "cache: disk, {size} of 1,024 GiB free, in '"),
    ],
)
def test_auto_takes_no_more_than_half_of_what_is_free(
    memory: int, disk: int, line: str, dataset: FullSemantic, free: Any, tmp_path: Path
) -> None:
    free(memory, disk)
    lines: list[str] = []
    opened(dataset, tmp_path, report=lines.append)
    sizes = {"size": f"{DECODED / 2**30:.3g}", "twice": f"{2 * DECODED / 2**30:.3g}"}
    assert [found.startswith(line.format(**sizes)) for found in lines] == [True], lines
    assert bool(list(tmp_path.iterdir())) == line.startswith("cache: disk")


def test_a_cache_that_is_there_needs_no_free_disk(
    dataset: FullSemantic, free: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(dataset, tmp_path, cache="disk")
    free(0, 0)
    monkeypatch.setattr(disk_cache, "_write", lambda *args: pytest.fail("written again"))
    for kind in ("auto", "disk"):
        lines: list[str] = []
        opened(dataset, tmp_path, cache=kind, report=lines.append)
        assert lines[0].startswith(f"cache: disk, found in '{tmp_path}")


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_cache_for_which_there_is_no_room_is_an_error(
    kind: cache.Kind, dataset: FullSemantic, free: Any, tmp_path: Path
) -> None:
    free(DECODED - 1, DECODED - 1)
    with pytest.raises(ConfigError, match=f"--cache {kind}: the decoded images take") as caught:
        opened(dataset, tmp_path, cache=kind)
    assert "GiB" in caught.value.expected
    assert "leave --cache out" in caught.value.next_step


def test_a_folder_that_cannot_be_written_is_an_error(dataset: FullSemantic, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written: Not a directory") as caught:
        opened(dataset, tmp_path / "file", cache="disk")
    assert "--cache_dir" in caught.value.next_step


def test_a_disk_that_fills_up_is_an_error(
    dataset: FullSemantic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk_cache, "_write", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        opened(dataset, tmp_path, cache="disk")


def test_auto_does_without_a_disk_that_cannot_be_written(
    dataset: FullSemantic, free: Any, first_twenty: list[bytes], tmp_path: Path
) -> None:
    free(0, MANY)
    (tmp_path / "file").write_text("")
    lines: list[str] = []
    examples = opened(dataset, tmp_path / "file", report=lines.append)
    assert lines[1].startswith("cache: none, ") and "Not a directory" in lines[1]
    assert batches(examples, 20) == first_twenty


def test_a_changed_set_is_not_served_from_an_old_cache(tmp_path: Path) -> None:
    def images(dataset: FullSemantic) -> list[bytes]:
        (examples,) = open_examples(dataset, ["train"], cache="disk")
        return [example["image"].tobytes() for example in examples.in_order().as_numpy_iterator()]

    before = images(built(tmp_path))
    shutil.rmtree(tmp_path / "tfds" / "full_semantic" / "1.0.0")
    changed = built(tmp_path, first_seed=100)
    after = images(changed)
    expected = [x["image"].tobytes() for x in changed.examples("train").as_numpy_iterator()]
    assert after == expected
    assert not set(after) & set(before)
    # by default beside the versions, which does not confuse whoever looks for the newest one
    assert len(list((tmp_path / "tfds" / "full_semantic" / "cache").glob("*/train-*"))) == 1
    assert open_dataset(tmp_path / "tfds").path == changed.path


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_what_is_kept_is_decoded_once(
    kind: cache.Kind, dataset: FullSemantic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = FullSemantic.decode

    def counted(self: FullSemantic, stored: Any) -> Any:
        def count() -> np.int64:
            decoded.append(1)
            return np.int64(0)

        with tf.control_dependencies([tf.numpy_function(count, [], tf.int64)]):
            return decode(self, stored)

    monkeypatch.setattr(FullSemantic, "decode", counted)
    train, val = open_examples(dataset, ["train", "val"], cache=kind, cache_dir=tmp_path)
    numbers(train, 5 * COUNT)
    for _ in range(3):
        assert len(list(val.in_order())) == 3
    assert len(decoded) == 2 * (COUNT + 3)  # once to see how large they are, once to keep them
