"""What a picture shows of an image and its mask."""

from __future__ import annotations

from segkit.video.effects.overlay import Overlay

__all__ = ["Overlay"]
