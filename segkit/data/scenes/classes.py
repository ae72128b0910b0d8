"""The classes of the street scenes: their ids, names and label colours."""

from __future__ import annotations

from enum import IntEnum

from segkit.labels import Label, LabelMap

__all__ = ["LABELS", "ClassId"]


class ClassId(IntEnum):
    """Class ids as a reader of the export gets them: background first, then by name."""

    BACKGROUND = 0
    BUILDING = 1
    CAR = 2
    PAVEMENT = 3
    PERSON = 4
    ROAD = 5
    SKY = 6
    TREE = 7


_COLORS = {
    ClassId.BACKGROUND: (0, 0, 0),
    ClassId.BUILDING: (188, 128, 110),
    ClassId.CAR: (36, 92, 196),
    ClassId.PAVEMENT: (232, 176, 204),
    ClassId.PERSON: (226, 54, 72),
    ClassId.ROAD: (116, 84, 136),
    ClassId.SKY: (112, 178, 222),
    ClassId.TREE: (96, 152, 64),
}

LABELS = LabelMap(tuple(Label(id_.name.lower(), _COLORS[id_]) for id_ in ClassId))
