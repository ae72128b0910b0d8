from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_sets import ids, jpeg, png
from tiny_tfds import BUILDER, REPOSITORY, build

from segkit.data.archive import ARCHIVE_NAME, Archive
from segkit.data.full_semantic import open_dataset
from segkit.data.readers import open_reader
from segkit.errors import DataError

LABEL_MAP = "road:1,1,1::\nbackground:0,0,0::\ncar:2,2,2::\n"
FILES: dict[str, bytes | str] = {
    "labelmap.txt": LABEL_MAP,
    "train.txt": "a\nd/b\nc\n",
    "val.txt": "d/e\n",
    **{f"rgb/{stem}.jpg": jpeg(i) for i, stem in enumerate(("a", "d/b", "c", "d/e"))},
    **{f"gt/{stem}.png": png(ids(i)) for i, stem in enumerate(("a", "d/b", "c", "d/e"))},
}


def archive_in(folder: Path, files: dict[str, bytes | str] = FILES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / ARCHIVE_NAME, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    build(archive_in(folder / "manual"), folder)
    return folder


def test_a_built_data_set_knows_its_labels_and_splits(data_dir: Path) -> None:
    dataset = open_dataset(data_dir)
    assert dataset.labels.names == ("road", "background", "car")  # the line is the class id
    assert dataset.splits == ("train", "val")
    assert (dataset.num_examples("train"), dataset.num_examples("val")) == (3, 1)


def test_examples_are_what_was_packed(data_dir: Path) -> None:
    from segkit.data.images import check_image

    dataset = open_dataset(data_dir)
    archive = Archive(data_dir / "manual" / ARCHIVE_NAME)
    packed = {entry.stem: entry for entry in archive.entries("train")}
    examples = list(dataset.examples("train").as_numpy_iterator())
    assert sorted(example["stem"].decode() for example in examples) == ["a", "c", "d/b"]
    for example in examples:
        stem = example["stem"].decode()
        assert example["image"].shape == (6, 8, 3)
        assert example["image"].dtype == example["mask"].dtype == np.uint8
        assert np.array_equal(example["mask"], ids(("a", "d/b", "c").index(stem)))
        assert check_image(packed[stem].image, source=stem).suffix == ".jpg"


def test_examples_come_in_the_same_order_each_time(data_dir: Path) -> None:
    dataset = open_dataset(data_dir)
    first, second = (
        [x["stem"] for x in dataset.examples("train").as_numpy_iterator()] for _ in range(2)
    )
    assert first == second


def test_the_stored_image_is_the_file_that_was_packed(data_dir: Path) -> None:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(open_dataset(data_dir).path))
    raw = builder.as_dataset(split="val", decoders={"rgb": tfds.decode.SkipDecoding()})
    assert next(iter(raw))["rgb"].numpy() == jpeg(3)


def test_a_split_that_is_not_there_is_answered_with_those_that_are(data_dir: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'test'[^$]*one of train, val"):
        open_dataset(data_dir).examples("test")


def test_a_missing_data_set_says_how_to_make_it_and_what_is_there(data_dir: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(data_dir, "street")
    message = str(caught.value)
    assert f"'street' is not in '{data_dir}'" in message
    assert "one of full_semantic" in message
    assert f"{data_dir}/downloads/manual/full_semantic.zip" in message
    assert f"cd datasets/full_semantic && tfds build --data_dir {data_dir}" in message


def test_the_default_folder_is_that_of_tfds(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    assert open_dataset().path == data_dir / "full_semantic" / "1.0.0"


def test_a_data_set_without_a_label_map_is_refused(data_dir: Path, tmp_path: Path) -> None:
    source, copy = open_dataset(data_dir).path, tmp_path / "full_semantic" / "1.0.0"
    copy.mkdir(parents=True)
    for file in source.iterdir():
        if file.name != "metadata.json":
            (copy / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DataError, match="does not say what its class ids mean"):
        open_dataset(tmp_path)


def test_a_missing_archive_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "other.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"full_semantic.zip' does not exist[^$]*segkit prepare"):
        build(tmp_path / "manual", tmp_path)
    assert not (tmp_path / "full_semantic" / "1.0.0").exists()


@pytest.mark.slow
def test_tfds_build_works_in_the_builders_folder(
    tmp_path: Path, run_tfds: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    manual = archive_in(tmp_path / "downloads" / "manual")
    done = run_tfds("build", "--data_dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "google" not in done.stderr.lower()  # nothing was asked of the network
    assert open_dataset(tmp_path).num_examples("train") == 3
    by_hand = {name: data for name, data in FILES.items() if "/" in name}
    archive_in(manual, by_hand)
    done = run_tfds("build", "--data_dir", str(tmp_path), "--overwrite")
    assert done.returncode == 0, done.stderr
    assert open_dataset(tmp_path).labels.names == ("class_0", "class_1", "class_2")


@pytest.fixture
def run_tfds() -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("tfds")), *flags],
            cwd=BUILDER.parent,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def test_a_built_data_set_is_read_like_its_archive(data_dir: Path) -> None:
    built = open_reader(f"full_semantic:{data_dir / 'full_semantic'}")
    packed = open_reader(f"full_semantic:{data_dir / 'manual' / ARCHIVE_NAME}")
    assert built.labels == packed.labels
    assert len(built) == len(packed) == 4
    for left, right in zip(built, packed, strict=True):
        assert (left.stem, left.split) == (right.stem, right.split)
        assert left.load().image == right.load().image
        assert np.array_equal(left.load().mask, right.load().mask)


def test_a_record_file_that_is_cut_off_is_named(data_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "full_semantic"
    shutil.copytree(data_dir / "full_semantic", copy)
    (records,) = copy.glob("*/*-train.tfrecord-*")
    records.write_bytes(records.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"-train\.tfrecord-.*' is cut off[^$]*tfds build"):
        open_reader(f"full_semantic:{copy}")
