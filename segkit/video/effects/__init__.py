"""What a picture shows of an image and its mask: drawers, made by name."""

from __future__ import annotations

from segkit.video.effects.drawer import Drawer, needs_confidence, picture_size
from segkit.video.effects.make import EFFECTS, Effect, make_effect, make_effects
from segkit.video.effects.overlay import Overlay

__all__ = [
    "EFFECTS",
    "Drawer",
    "Effect",
    "Overlay",
    "make_effect",
    "make_effects",
    "needs_confidence",
    "picture_size",
]
