"""Which pixels are which object, for effects that treat every object by itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segkit.data.images import MaskFile, open_mask
from segkit.data.tree import Tree
from segkit.errors import DataError
from segkit.labels import IGNORE_ID, LabelMap

__all__ = ["ObjectMasks", "background_id", "number_objects", "objects_by_class"]

_FOLDER = "SegmentationObject/"


class ObjectMasks:
    """Object masks on disk, one PNG an image; an image without one has no objects.

    Args:
        tree: Where they are.
        folder: Folder in it, ending in "/", or "" for the tree itself.
    """

    def __init__(self, tree: Tree, folder: str = _FOLDER) -> None:
        self._tree = tree
        self._names = {
            name[len(folder) : -len(".png")]: name
            for name in tree.names
            if name.startswith(folder) and name.lower().endswith(".png")
        }

    @property
    def stems(self) -> frozenset[str]:
        """Names of the images that have one."""
        return frozenset(self._names)

    def check_pairs(self, stems: frozenset[str]) -> None:
        """Refuses object masks that are not those of the images.

        Args:
            stems: Names of the images.

        Raises:
            DataError: An image has none, or one belongs to no image.
        """
        lonely = sorted(self.stems ^ stems)
        if lonely:
            lacks = "no image" if lonely[0] in self.stems else "no object mask"
            raise DataError(
                f"'{lonely[0]}' has {lacks}: '{self._tree.path}' does not pair with the images "
                f"({len(lonely)} such names in all)",
                expected="an object mask for every image, by name, or none at all",
                next_step="copy all of SegmentationObject there; for images without shapes "
                "'python data_augmentation/make_blank_label.py' writes them",
            )

    def __call__(self, stem: str, mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
        """The objects of an image: uint16, (H, W), 0 where none is.

        Raises:
            DataError: The object mask is damaged, or of another size than the mask.
        """
        name = self._names.get(stem)
        if name is None:
            return np.zeros(mask.shape, np.uint16)
        objects = number_objects(open_mask(self._tree.read(name), source=name))
        if objects.shape != mask.shape:
            raise DataError(
                f"object mask '{name}' of '{self._tree.path}' is "
                f"{objects.shape[1]}x{objects.shape[0]}, its image {mask.shape[1]}x{mask.shape[0]}",
                expected="one size (width x height)",
                next_step="export mask and object mask from the same task",
            )
        return objects


def number_objects(mask: MaskFile) -> npt.NDArray[np.uint16]:
    """Numbers the objects 1, 2, ... by the full colour of their pixels; black is none.

    In a mask of indices 0 is none, and so is 255, Pascal VOC's border between objects.

    Returns:
        uint16, (H, W).
    """
    values, palette = mask
    codes = values.astype(np.int32)
    if values.ndim == 3:
        codes = codes @ np.array([1 << 16, 1 << 8, 1], np.int32)  # (H, W)
        none = codes == 0
    else:
        none = (codes == 0) | (codes == IGNORE_ID)
        if palette is not None:
            none |= ~palette[values].any(axis=-1)
    objects = np.zeros(codes.shape, np.uint16)
    # Sorting the codes takes the time, so what is no object is left out of it.
    _, numbers = np.unique(codes[~none], return_inverse=True)
    objects[~none] = numbers + 1
    return objects


def objects_by_class(
    stem: str, mask: npt.NDArray[np.uint8], *, background: int | None
) -> npt.NDArray[np.uint16]:
    """For sets without object masks: all pixels of a class are one object, background is none."""
    objects = np.add(mask, 1, dtype=np.uint16)
    objects[mask == IGNORE_ID] = 0
    if background is not None:
        objects[mask == background] = 0
    return objects


def background_id(labels: LabelMap, name: str | None = None) -> int | None:
    """The class id of the background: the named label, else "background", else the black one."""
    for id_, label in enumerate(labels.labels):
        if label.name == name:
            return id_
    for id_, label in enumerate(labels.labels):
        if label.name.lower() == "background":
            return id_
    colors = [label.color for label in labels.labels]
    return colors.index((0, 0, 0)) if (0, 0, 0) in colors else None
