from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from segkit.data.images import open_mask
from segkit.data.readers import cvat
from segkit.data.scenes import LABELS, ClassId, Street, write_clip, write_cvat_export
from segkit.data.scenes.camera import NEAR, Camera, Plane
from segkit.errors import DataError
from segkit.labels import LabelMap

SIZE = (96, 128)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "export"
    write_cvat_export(folder, num_scenes=3, frames_per_scene=2, image_size=SIZE, seed=4, workers=1)
    return folder


@pytest.fixture(scope="module")
def streets() -> list[tuple[np.ndarray, np.ndarray]]:
    pictures = []
    for seed in range(6):
        street = Street(seed, image_size=SIZE)
        pictures += [street.render(t) for t in (1.0, 5.0, 9.0)]
    return pictures


def test_the_same_seed_gives_the_same_pictures() -> None:
    first, again, other = (Street(seed, image_size=SIZE).render(2.0) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any()


def test_a_frame_does_not_depend_on_the_frames_before_it() -> None:
    street = Street(3, image_size=SIZE)
    street.render(0.0)
    np.testing.assert_array_equal(street.render(4.0)[0], Street(3, image_size=SIZE).render(4.0)[0])


def test_the_camera_moves() -> None:
    street = Street(3, image_size=SIZE)
    assert (street.render(1.0)[1] != street.render(1.4)[1]).mean() > 0.02


def test_every_class_has_a_sensible_share(streets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    masks = np.stack([mask for _, mask in streets])
    shares = np.bincount(masks.ravel(), minlength=len(ClassId)) / masks.size
    assert len(shares) == len(ClassId) == LABELS.num_classes
    assert 0.2 < shares[ClassId.ROAD] < 0.55
    assert 0.1 < shares[ClassId.BUILDING] < 0.45
    for class_id in (ClassId.SKY, ClassId.TREE, ClassId.CAR):
        assert 0.02 < shares[class_id] < 0.3
    for class_id in (ClassId.PERSON, ClassId.PAVEMENT):
        assert 0.004 < shares[class_id] < 0.12
    assert shares[ClassId.BACKGROUND] == 0  # everything in these streets has a class


def test_colour_edges_lie_where_the_mask_changes(
    streets: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    """A mask shifted by three pixels fits the picture's edges worse than the true one."""

    def contrast(image: np.ndarray, mask: np.ndarray) -> float:
        steps = np.abs(np.diff(image.astype(float), axis=1)).sum(axis=2)
        return float(steps[mask[:, 1:] != mask[:, :-1]].mean())

    true, shifted = 0.0, 0.0
    for image, mask in streets:
        true += contrast(image[:, 3:-3], mask[:, 3:-3])
        shifted += contrast(image[:, 3:-3], mask[:, 6:])
        shifted += contrast(image[:, 3:-3], mask[:, :-6])
    assert true > 1.5 * shifted / 2


def test_surfaces_are_textured_and_noisy(streets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for image, mask in streets:
        for class_id in (ClassId.ROAD, ClassId.BUILDING):
            assert image[mask == class_id].std() > 4


def test_the_export_reads_back(export: Path) -> None:
    reader = cvat.read(export)
    assert reader.labels == LABELS
    samples = list(reader)
    assert [sample.split for sample in samples].count("val") == 2
    assert len(samples) == 6
    pairs = [sample.load() for sample in samples]
    assert all(pair.mask.shape == SIZE for pair in pairs)
    used = set(np.unique(np.stack([pair.mask for pair in pairs])).tolist())
    assert used <= set(range(LABELS.num_classes)) and len(used) >= 6


def test_the_export_keeps_whole_streets_in_one_split(export: Path) -> None:
    lists = {
        name: {
            line[:10]
            for line in (export / f"ImageSets/Segmentation/{name}.txt").read_text().split()
        }
        for name in ("train", "val")
    }
    assert lists["train"] and lists["val"]
    assert not lists["train"] & lists["val"]


def test_labels_stand_in_the_order_of_their_names_as_datumaro_writes_them(export: Path) -> None:
    names = LabelMap.load((export / "labelmap.txt").read_text()).names
    assert list(names) == sorted(names)


def test_the_export_does_not_touch_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="not empty"):
        write_cvat_export(tmp_path, num_scenes=2, frames_per_scene=1, image_size=SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_clip_has_its_frames_its_rate_and_a_mask_for_each(tmp_path: Path) -> None:
    clip, truth = tmp_path / "clip.mp4", tmp_path / "truth"
    write_clip(clip, truth, num_frames=5, image_size=SIZE, seed=4, workers=1)
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == Fraction(25)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [frame.shape for frame in frames] == [(*SIZE, 3)] * 5
    masks = sorted(truth.iterdir())
    assert [path.name for path in masks] == [f"{index:06}.png" for index in range(5)]
    values, palette = open_mask(masks[0].read_bytes(), source="mask")
    assert palette is None
    assert values.shape == SIZE and values.max() < LABELS.num_classes
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "truth"}


def test_two_processes_draw_what_one_draws(tmp_path: Path) -> None:
    for workers in (1, 2):
        write_clip(
            tmp_path / f"{workers}.mp4",
            tmp_path / str(workers),
            num_frames=3,
            image_size=SIZE,
            workers=workers,
        )
    one, two = (sorted((tmp_path / str(workers)).iterdir()) for workers in (1, 2))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_plane_projects_by_its_homography_as_its_points_do() -> None:
    camera = Camera((1.0, 1.5, 2.0), image_size=SIZE, yaw=0.1, pitch=-0.05, roll=0.02)
    plane = Plane(np.array([3.0, 4.0, 9.0]), np.array([0, 0, 0.5]), np.array([0, -0.5, 0]))
    pixel = camera.homography(plane) @ (4, 2, 1)
    world = plane.corner + 4 * plane.right + 2 * plane.down
    (point,), (depth,) = camera.project(world[None])
    np.testing.assert_allclose(pixel[:2] / pixel[2], point)
    np.testing.assert_allclose(camera.inverse_depth(plane) @ (*point, 1), 1 / depth)


def test_what_is_behind_the_camera_is_cut_off() -> None:
    camera = Camera((0, 1.5, 0), image_size=SIZE)
    ground = np.array([(-1.0, 0, -5), (1, 0, -5), (1, 0, 5), (-1, 0, 5)])
    seen = camera.polygon(ground)
    assert len(seen) == 4
    assert seen[:, 1].min() > SIZE[0] / 2  # all below the horizon
    assert seen[:, 1].max() == pytest.approx(SIZE[0] / 2 + 1.5 / NEAR * camera.focal)
    assert len(camera.polygon(ground - (0, 0, 10))) == 0
