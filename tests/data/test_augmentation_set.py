from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event, Timer

import numpy as np
import pytest
from PIL import Image as PillowImage
from tiny_sets import COLORS, ids, jpeg, png, write

from segkit.data.archive import Archive
from segkit.data.augmentation import Augmented, Blur, Color, Image, Mask, Objects, Rotate, Shift
from segkit.data.augmentation_set import Recipe, augment, output_folder
from segkit.data.readers import cvat, open_reader
from segkit.data.splits import source_of
from segkit.errors import DataError

Make = Callable[..., Path]
RECIPE = Recipe(effects=(Color(), Blur(), Shift(), Rotate()), variants=3)
SIZE = (24, 36)


def every_class(stem: str, mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.uint16)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def export(cvat_export: Make) -> Path:
    """The images a.jpg, b.png and d/e.jpg, of two sizes, and c.jpg of background only."""
    return cvat_export(
        {
            "JPEGImages/a.jpg": jpeg(0, SIZE),
            "SegmentationClass/a.png": png(COLORS[ids(0, SIZE)]),
            "JPEGImages/b.jpg": None,
            "JPEGImages/b.png": png(COLORS[ids(1)]),
        }
    )


def run(export: Path, folder: Path, recipe: Recipe = RECIPE, workers: int | None = None) -> int:
    folder.mkdir(parents=True)
    done = augment(cvat.read(export), folder, recipe, objects_of=every_class, workers=workers)
    return sum(len(one.stems) for one in done)


def test_originals_and_copies_lie_side_by_side(export: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(export, out) == 16
    written = files(out)
    stems = [f"{s}{n}" for s in ("a", "b", "c", "d/e") for n in ("", ".aug1", ".aug2", ".aug3")]
    suffix = {"a": ".jpg", "b": ".png", "c": ".jpg", "d/e": ".jpg"}
    assert set(written) == {
        "labelmap.txt",
        *(f"RGB/{stem}{suffix[source_of(stem)]}" for stem in stems),
        *(f"MASK/{stem}.png" for stem in stems),
        *(f"VIS_MASK/{stem}.png" for stem in stems),
    }
    assert written["RGB/a.jpg"] == jpeg(0, SIZE), "byte for byte"
    assert len({written[f"RGB/a{n}.jpg"] for n in ("", ".aug1", ".aug2", ".aug3")}) == 4


def test_masks_are_8_bit_indices_of_the_classes_their_source_has(
    export: Path, tmp_path: Path
) -> None:
    run(export, tmp_path / "out")
    written = files(tmp_path / "out")
    ignored = 0
    for sample in cvat.read(export):
        known = set(np.unique(sample.load().mask))
        for name, data in written.items():
            stem = name.removeprefix("MASK/").removesuffix(".png")
            if name.startswith("MASK/") and source_of(stem) == sample.stem:
                mask = PillowImage.open(io.BytesIO(data))
                assert mask.mode == "L"
                assert set(np.unique(np.array(mask))) <= known | {255}
                ignored += int((np.array(mask) == 255).sum())
                image = written.get(f"RGB/{stem}.jpg") or written[f"RGB/{stem}.png"]
                assert PillowImage.open(io.BytesIO(image)).size == mask.size
    assert ignored


def test_vis_masks_show_the_label_colours(export: Path, tmp_path: Path) -> None:
    run(export, tmp_path / "out")
    for path in (tmp_path / "out/MASK").rglob("*.png"):
        mask = np.array(PillowImage.open(path))
        shown = np.array(PillowImage.open(str(path).replace("/MASK/", "/VIS_MASK/")).convert("RGB"))
        np.testing.assert_array_equal(shown[mask < 3], COLORS[mask[mask < 3]])
        assert (shown[mask == 255] == (224, 224, 192)).all()


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_workers(
    export: Path, tmp_path: Path
) -> None:
    for name, workers in (("one", 1), ("many", 5)):
        run(export, tmp_path / name, workers=workers)
    run(export, tmp_path / "other", replace(RECIPE, seed=1))
    one, many, other = (files(tmp_path / name) for name in ("one", "many", "other"))
    assert one == many
    assert one.keys() == other.keys()
    assert one["RGB/a.jpg"] == other["RGB/a.jpg"]
    assert one["RGB/a.aug1.jpg"] != other["RGB/a.aug1.jpg"]


def test_a_copy_does_not_depend_on_the_other_images(export: Path, tmp_path: Path) -> None:
    run(export, tmp_path / "all")
    for name in ("JPEGImages/b.png", "SegmentationClass/b.png"):
        (export / name).unlink()
    (export / "ImageSets/Segmentation/default.txt").write_text("a\nc\nd/e\n")
    run(export, tmp_path / "fewer")
    everything, fewer = files(tmp_path / "all"), files(tmp_path / "fewer")
    assert fewer == {name: everything[name] for name in everything if "/b." not in name}


def test_what_an_effect_cannot_alter_gets_no_copy(export: Path, tmp_path: Path) -> None:
    """The image c shows background only, so there is no object to recolour: no copy of it."""
    run(export, tmp_path / "out", replace(RECIPE, effects=(Color(),)))
    names = set(files(tmp_path / "out"))
    assert "RGB/a.aug3.jpg" in names
    assert "RGB/c.jpg" in names
    assert not any(name.startswith("RGB/c.aug") for name in names)


@pytest.fixture
def split_export(export: Path) -> Path:
    lists = {"default": "", "train": "a\nc\n", "val": "b\nd/e\n"}
    for name, text in lists.items():
        (export / f"ImageSets/Segmentation/{name}.txt").write_text(text)
    return export


def test_val_images_get_no_copies_and_the_split_is_kept(split_export: Path, tmp_path: Path) -> None:
    run(split_export, tmp_path / "out")
    train = (tmp_path / "out/train.txt").read_text().split()
    assert train == [f"{stem}{n}" for stem in "ac" for n in ("", ".aug1", ".aug2", ".aug3")]
    assert (tmp_path / "out/val.txt").read_text().split() == ["b", "d/e"]
    assert not list(tmp_path.glob("out/*/b.aug*"))


def as_archive(folder: Path, path: Path) -> Archive:
    """The folder under the archive's names."""
    path.mkdir()
    for entry in folder.iterdir():
        name = {"RGB": "rgb", "MASK": "gt"}.get(entry.name, entry.name)
        (path / name).symlink_to(entry)
    return Archive(path)


def test_an_image_in_no_split_is_listed_for_training_beside_a_val(tmp_path: Path) -> None:
    names: dict[str, bytes | str] = {}
    for name in ("train/a", "val/b", "c"):
        names |= {f"images/{name}.jpg": jpeg(), f"masks/{name}.png": png(ids())}
    reader = open_reader(f"folder:{write(tmp_path / 'set', names)}")
    (tmp_path / "out").mkdir()
    list(augment(reader, tmp_path / "out", replace(RECIPE, variants=1), objects_of=every_class))
    listed = (tmp_path / "out" / "train.txt").read_text().split()
    assert listed == ["a", "a.aug1", "c", "c.aug1"]
    assert (tmp_path / "out" / "val.txt").read_text() == "b\n"


def test_all_copies_of_an_image_go_to_its_split(export: Path, tmp_path: Path) -> None:
    run(export, tmp_path / "out")
    archive = as_archive(tmp_path / "out", tmp_path / "archive")
    assert archive.labels == cvat.read(export).labels
    sides = {split: {source_of(stem) for stem in archive.splits[split]} for split in archive.splits}
    assert not sides["train"] & sides["val"]
    assert sum(map(len, archive.splits.values())) == 16
    entries = {entry.stem: entry for split in archive.splits for entry in archive.entries(split)}
    mask = np.array(PillowImage.open(io.BytesIO(entries["a"].mask)))
    np.testing.assert_array_equal(mask, ids(0, SIZE))


def test_an_ignored_background_stays_ignored(export: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    reader = cvat.read(export, ignore="background")
    list(augment(reader, tmp_path / "out", RECIPE, objects_of=every_class))
    archive = as_archive(tmp_path / "out", tmp_path / "archive")
    assert archive.labels.names == ("car", "road")
    assert set(np.unique(np.array(PillowImage.open(tmp_path / "out/MASK/a.png")))) == {0, 1, 255}


def test_a_set_that_was_augmented_before_is_refused(cvat_export: Make, tmp_path: Path) -> None:
    changes = {
        "JPEGImages/a.aug2.jpg": jpeg(9),
        "SegmentationClass/a.aug2.png": png(COLORS[ids(9)]),
    }
    with pytest.raises(DataError, match=r"two files would be called 'a\.aug2'") as caught:
        run(cvat_export(changes), tmp_path / "out")
    assert "before it was augmented" in str(caught.value)


def test_a_damaged_image_is_named(cvat_export: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="JPEGImages/b.jpg' cannot be decoded"):
        run(cvat_export({"JPEGImages/b.jpg": jpeg(1)[:300]}), tmp_path / "out")


def test_closing_it_ends_an_image_that_is_under_way(export: Path, tmp_path: Path) -> None:
    for name, text in {"default": "", "train": "b\n", "val": "a\nc\nd/e\n"}.items():
        (export / f"ImageSets/Segmentation/{name}.txt").write_text(text)
    closing_now, calls = Event(), []

    def brighten(image: Image, mask: Mask, objects: Objects, _: np.random.Generator) -> Augmented:
        calls.append(1)
        closing_now.wait(10)
        return image + np.uint8(1), mask, objects

    (tmp_path / "out").mkdir()
    recipe = Recipe(effects=(brighten,), variants=5000)
    written = augment(cvat.read(export), tmp_path / "out", recipe, objects_of=every_class)
    assert next(written).split == "val"
    Timer(0.1, closing_now.set).start()
    written.close()
    assert len(calls) < 5000


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out"
    with output_folder(path) as folder:
        (folder / "labelmap.txt").write_text("x")
        assert not path.exists()
    assert files(tmp_path) == {"new/out/labelmap.txt": b"x"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError("x"), ValueError])
def test_a_folder_that_was_not_finished_vanishes(
    tmp_path: Path, error: type[BaseException] | BaseException
) -> None:
    write(tmp_path, {"out/labelmap.txt": "old"})
    with (
        pytest.raises(error if isinstance(error, type) else type(error)),
        output_folder(tmp_path / "out", overwrite=True) as folder,
    ):
        (folder / "labelmap.txt").write_text("new")
        raise error
    assert files(tmp_path) == {"out/labelmap.txt": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_earlier_result_is_replaced_only_on_request(tmp_path: Path) -> None:
    write(tmp_path, {"out/RGB/old.png": b"", "out/labelmap.txt": "old"})
    with pytest.raises(DataError, match="out' exists") as caught, output_folder(tmp_path / "out"):
        pass
    assert "--overwrite" in caught.value.next_step
    with output_folder(tmp_path / "out", overwrite=True) as folder:
        (folder / "labelmap.txt").write_text("new")
    assert files(tmp_path) == {"out/labelmap.txt": b"new"}


def test_an_earlier_result_survives_a_replacement_that_fails(tmp_path: Path) -> None:
    write(tmp_path, {"out/labelmap.txt": "old"})
    with (
        pytest.raises(DataError, match="cannot be written: No such file"),
        output_folder(tmp_path / "out", overwrite=True) as folder,
    ):
        folder.rmdir()
    assert files(tmp_path) == {"out/labelmap.txt": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with output_folder(tmp_path / "out") as folder:
        (folder / "labelmap.txt").write_text("new")
    assert files(tmp_path) == {"out/labelmap.txt": b"new"}


@pytest.mark.parametrize("content", ["out/photo.jpg", "out/rgb/a.jpg", "out"])
def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path, content: str) -> None:
    write(tmp_path, {content: b"precious"})
    with (
        pytest.raises(DataError, match="which no augmentation wrote"),
        output_folder(tmp_path / "out", overwrite=True),
    ):
        pass
    assert files(tmp_path) == {content: b"precious"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"file": b""})
    with (
        pytest.raises(DataError, match="cannot be written: Not a directory") as caught,
        output_folder(tmp_path / "file" / "out"),
    ):
        pass
    assert "--output_path" in caught.value.next_step
