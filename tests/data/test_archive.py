from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_sets import COLORS, Files, ids, jpeg, png, write

from segkit.data.archive import Archive, next_steps, pack
from segkit.data.images import open_mask
from segkit.data.readers import cvat, open_reader
from segkit.errors import DataError

Export = Callable[..., Path]
BY_HAND = {
    f"{folder}/{stem}.png": png(ids(i) if folder == "gt" else np.full((6, 8, 3), i))
    for i, stem in enumerate("abcd")
    for folder in ("rgb", "gt")
}


def make_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def all_entries(path: Path) -> dict[str, tuple[bytes, np.ndarray]]:
    archive = Archive(path)
    return {
        entry.stem: (entry.image, open_mask(entry.mask, source=entry.stem).values)
        for split in archive.splits
        for entry in archive.entries(split)
    }


def test_what_is_packed_comes_back(cvat_export: Export, tmp_path: Path) -> None:
    reader = cvat.read(cvat_export())
    packed = pack(reader, tmp_path / "new" / "set.zip", val_share=0.25)
    entries = all_entries(packed.path)
    assert sorted(entries) == ["a", "b", "c", "d/e"]
    for sample in reader:
        image, _, mask = sample.load()
        assert entries[sample.stem][0] == image
        assert np.array_equal(entries[sample.stem][1], mask)
    archive = Archive(packed.path)
    assert archive.labels == reader.labels
    assert archive.splits == packed.splits
    assert [len(stems) for stems in archive.splits.values()] == [3, 1]
    assert packed.pixels.sum() == 4 * 6 * 8
    assert packed.pixels[1] == sum((ids(seed) == 1).sum() for seed in (0, 1, 3))


def test_the_same_set_gives_the_same_bytes(cvat_export: Export, tmp_path: Path) -> None:
    export = cvat_export()
    first, second = (pack(cvat.read(export), tmp_path / f"{i}.zip").path for i in range(2))
    assert first.read_bytes() == second.read_bytes()


def test_the_exports_own_lists_are_the_split_unless_a_share_is_given(
    cvat_export: Export, tmp_path: Path
) -> None:
    lists = "ImageSets/Segmentation/"
    export = cvat_export(
        {lists + "train.txt": "a\nb\n", lists + "val.txt": "c\n", lists + "test.txt": "d/e\n"}
    )
    own = pack(cvat.read(export), tmp_path / "own.zip")
    assert own.splits == {"train": ["a", "b"], "val": ["c"], "test": ["d/e"]}
    assert Archive(own.path).splits == own.splits
    share = pack(cvat.read(export), tmp_path / "share.zip", val_share=0.5)
    assert [len(stems) for stems in share.splits.values()] == [2, 2]


def test_an_image_in_no_split_is_for_training_beside_a_val(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for name in ("train/a", "val/b", "c"):
        files |= {f"images/{name}.jpg": jpeg(), f"masks/{name}.png": png(ids())}
    packed = pack(open_reader(f"folder:{write(tmp_path / 'set', files)}"), tmp_path / "set.zip")
    assert packed.splits == {"train": ["a", "c"], "val": ["b"]}


def test_an_existing_archive_is_replaced_only_when_asked(
    cvat_export: Export, tmp_path: Path
) -> None:
    reader = cvat.read(cvat_export())
    output = tmp_path / "set.zip"
    output.write_bytes(b"precious")
    with pytest.raises(DataError, match=r"set.zip' exists[^$]*--overwrite"):
        pack(reader, output)
    assert output.read_bytes() == b"precious"
    pack(reader, output, overwrite=True)
    assert zipfile.is_zipfile(output)


def test_a_failure_leaves_nothing_behind_and_the_old_archive_in_place(
    cvat_export: Export, tmp_path: Path
) -> None:
    reader = cvat.read(cvat_export({"SegmentationClass/d/e.png": png(np.full((6, 8, 3), 77))}))
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "set.zip").write_bytes(b"precious")
    with pytest.raises(DataError, match="d/e.png"):
        pack(reader, folder / "set.zip", overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["set.zip"]
    assert (folder / "set.zip").read_bytes() == b"precious"


def test_an_output_that_cannot_be_written_is_named(cvat_export: Export, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"file/set.zip' cannot be written: File exists"):
        pack(cvat.read(cvat_export()), tmp_path / "file" / "set.zip")
    with pytest.raises(DataError, match="cannot be written: Is a directory"):
        pack(cvat.read(cvat_export()), tmp_path, overwrite=True)


def test_the_next_steps_quote_names_and_replace_an_earlier_build(tmp_path: Path) -> None:
    data_dir = tmp_path / "my sets"
    copy, build = next_steps(Path("my set.zip"), data_dir)
    manual = f"{data_dir}/downloads/manual"
    assert copy == f"mkdir -p '{manual}' && cp 'my set.zip' '{manual}/full_semantic.zip'"
    assert build == f"(cd datasets/full_semantic && tfds build --data_dir '{data_dir}')"
    (data_dir / "full_semantic").mkdir(parents=True)
    assert next_steps(Path("a.zip"), data_dir)[1].endswith("--overwrite)")


def test_a_zip_made_by_hand_gets_numbered_classes_and_a_split(tmp_path: Path) -> None:
    archive = Archive(make_zip(tmp_path / "hand.zip", BY_HAND))
    assert archive.labels.names == ("class_0", "class_1", "class_2")
    assert sorted(stem for stems in archive.splits.values() for stem in stems) == list("abcd")
    assert len(archive.splits["val"]) == 1
    entries = all_entries(tmp_path / "hand.zip")
    assert np.array_equal(entries["b"][1], ids(1))


def test_a_zip_of_the_folder_itself_and_what_macos_adds_are_understood(tmp_path: Path) -> None:
    files = {f"my set/{name}": data for name, data in BY_HAND.items()}
    files |= {"__MACOSX/my set/._a.png": b"", "my set/rgb/.DS_Store": b""}
    assert sorted(all_entries(make_zip(tmp_path / "hand.zip", files))) == list("abcd")


def test_masks_called_as_augmentation_scripts_call_them_pair(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for i in range(3):
        for kind in ("org", "rot"):
            files[f"rgb/idx_{i}_{kind}_.png"] = png(np.zeros((6, 8, 3)))
            files[f"gt/idx_{i}_{kind}_mask.png"] = png(ids(i))
    archive = Archive(make_zip(tmp_path / "hand.zip", files))
    assert [len(stems) for stems in archive.splits.values()] == [4, 2]
    assert len({stem[:5] for stem in archive.splits["val"]}) == 1


def test_palette_and_grey_rgb_masks_hold_class_ids(tmp_path: Path) -> None:
    files = BY_HAND | {
        "gt/a.png": png(ids(0), palette=COLORS),
        "gt/b.png": png(np.repeat(ids(1)[..., None], 3, axis=2)),
    }
    entries = all_entries(make_zip(tmp_path / "hand.zip", files))
    assert np.array_equal(entries["a"][1], ids(0))
    assert np.array_equal(entries["b"][1], ids(1))


@pytest.mark.parametrize(
    "name", ["../evil.png", "rgb/../../evil.png", "/etc/evil.png", "C:/evil.png", "..\\evil.png"]
)
def test_an_entry_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = make_zip(tmp_path / "hand.zip", BY_HAND | {name: b"x"})
    with pytest.raises(DataError, match=r"evil.png', which is a link or leaves the folder"):
        Archive(path)


def test_a_link_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "hand.zip", BY_HAND)
    link = zipfile.ZipInfo("rgb/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match=r"'rgb/link.png', which is a link"):
        Archive(path)


def test_a_truncated_zip_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "hand.zip", BY_HAND)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"hand.zip' cannot be opened as a zip[^$]*cut off"):
        Archive(path)


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "hand.zip", BY_HAND)
    data = bytearray(path.read_bytes())
    at = data.index(b"gt/c.png") + len("gt/c.png") + 40
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"'gt/c.png' of .*hand.zip' cannot be read"):
        all_entries(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rgb/e.png": png(np.zeros((6, 8, 3)))}, "the image 'rgb/e.png' has no mask"),
        ({"gt/e.png": png(ids())}, "the mask 'gt/e.png' has no image"),
        ({"rgb/a.jpg": jpeg()}, "the same name but for the suffix"),
        ({"train.txt": "a\nz\n", "val.txt": "b\n"}, "the list names 'z'"),
        ({"train.txt": "a\n", "val.txt": "\n"}, "names nothing"),
        ({"train.txt": "a\nb\n", "val.txt": "b\n"}, "'b' is in train and 'b' in val"),
        ({"labelmap.txt": "car\n"}, "four fields"),
    ],
)
def test_an_archive_that_does_not_fit_together_says_how(
    tmp_path: Path, changes: dict[str, bytes | str], words: str
) -> None:
    path = make_zip(tmp_path / "hand.zip", BY_HAND | changes)
    with pytest.raises(DataError) as caught:
        Archive(path)
    assert words in str(caught.value)


def test_masks_of_0_and_255_are_explained(tmp_path: Path) -> None:
    binary = {name: png((ids() > 0) * 255) for name in BY_HAND if name.startswith("gt/")}
    with pytest.raises(DataError, match=r"nothing but 0 and 255[^$]*write 1 instead of 255"):
        all_entries(make_zip(tmp_path / "hand.zip", BY_HAND | binary))


def test_something_else_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no images in rgb/[^$]*zip -r"):
        Archive(make_zip(tmp_path / "hand.zip", {"readme.txt": "hello"}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labelmap.txt": "one:1,1,1::\ntwo:2,2,2::\n"}, "value 2, which no class"),
        ({"rgb/a.png": png(np.zeros((8, 6, 3)))}, "is 6x8, its mask 'gt/a.png' 8x6"),
        ({"rgb/a.png": png(np.zeros((6, 8, 3)))[:-30]}, "'rgb/a.png' cannot be decoded"),
        ({"gt/a.png": png(COLORS[ids()])}, "'gt/a.png' has colours"),
    ],
)
def test_an_example_that_cannot_be_used_is_named(
    tmp_path: Path, changes: dict[str, bytes | str], words: str
) -> None:
    path = make_zip(tmp_path / "hand.zip", BY_HAND | changes)
    with pytest.raises(DataError) as caught:
        all_entries(path)
    assert words in str(caught.value)
