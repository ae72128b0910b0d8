"""Procedural street scenes with exact masks: rendered on the CPU from a seed, offline."""

from __future__ import annotations

from segkit.data.scenes.classes import LABELS, ClassId
from segkit.data.scenes.export import write_clip, write_cvat_export
from segkit.data.scenes.world import DRIVE_SECONDS, Street

__all__ = ["DRIVE_SECONDS", "LABELS", "ClassId", "Street", "write_clip", "write_cvat_export"]
