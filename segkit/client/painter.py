"""Painter: from an answer to what the sinks take: mask of the frame's size, picture, figures."""

from __future__ import annotations

from collections.abc import Callable

from segkit.client.requests import Request
from segkit.client.segmenter import Answer
from segkit.video.frame import Frame, Image, Mask, SegmentedFrame
from segkit.video.meters import StageTimer
from segkit.video.resize import resize_mask

__all__ = ["Drawer", "Painter", "Smoother"]

# Image, mask and confidence of the image's size -> picture.
Drawer = Callable[[Image, Mask, Mask | None], Image]
# Frame, mask and confidence of the model's size -> mask.
Smoother = Callable[[Frame, Mask, Mask | None], Mask]


class Painter:
    """Finishes frames, in order.

    Args:
        timer: Notes "draw".
        draw: Makes the picture; the image itself if None.
        smooth: Steadies the masks; None leaves them as they are.
    """

    def __init__(
        self, timer: StageTimer, *, draw: Drawer | None = None, smooth: Smoother | None = None
    ) -> None:
        self._timer = timer
        self._draw, self._smooth = draw, smooth

    def paint(self, request: Request, answer: Answer) -> SegmentedFrame:
        """The frame of a request with its mask and picture."""
        frame = request.frame
        size = (frame.image.shape[0], frame.image.shape[1])
        with self._timer.measure("draw"):
            mask, confidence = answer.mask, answer.confidence
            if self._smooth is not None:
                mask = self._smooth(frame, mask, confidence)
            mask = resize_mask(mask, size)
            if confidence is not None:
                confidence = resize_mask(confidence, size)
            picture = (
                frame.image if self._draw is None else self._draw(frame.image, mask, confidence)
            )
        times_ms = {
            "send": 1e3 * (request.sent - request.started),
            "server": 1e3 * (request.replied - request.sent),
        }
        return SegmentedFrame(frame, mask, picture, confidence, times_ms)
