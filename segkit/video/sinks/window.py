"""WindowSink: the pictures in a window, with keys for the controls."""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2

from segkit.video.frame import Image, SegmentedFrame
from segkit.video.sinks.controls import Controls
from segkit.video.sinks.display import check_display

__all__ = ["WindowSink"]

HELP = (
    ("q", "quit"),
    ("space", "pause"),
    ("s", "snapshot"),
    ("o", "opacity"),
    ("- +", "opacity less, more"),
    ("e", "next effect"),
    ("l", "legend"),
    ("r", "record"),
    ("h", "this help"),
)
HELP_SECONDS = 6.0  # from the first frame, unless a key comes before
ESCAPE = 27
FONT = cv2.FONT_HERSHEY_SIMPLEX
TEXT_COLOR, RECORDING_COLOR = (245, 245, 245), (255, 90, 80)  # RGB
SMALLEST_TEXT, ROWS_PER_IMAGE = 0.4, 24  # of the help: OpenCV's scale; rows in the image's height


class WindowSink:
    """Shows every picture in a window; its keys move the controls.

    OpenCV wants a window to be made, drawn and read in one thread: the one that calls this.

    Args:
        controls: What the keys move.
        title: What is seen, such as the source's name.

    Raises:
        VideoError: There is no display.
    """

    def __init__(self, controls: Controls, *, title: str = "segkit") -> None:
        check_display()
        self._controls = controls
        self._title = title
        self._picture: Image | None = None
        self._help_until: float | None = None  # of time.perf_counter(); None before the first frame
        # What a key does. Shift does not show in some of OpenCV's windows: no letter needs it, and
        # where + does, it arrives as =.
        self._actions: dict[str, Callable[[], None]] = {
            "q": controls.quit,
            chr(ESCAPE): controls.quit,
            " ": lambda: controls.toggle("paused"),
            "s": controls.request_snapshot,
            "o": controls.next_opacity,
            "-": lambda: controls.turn_opacity(-1),
            "+": lambda: controls.turn_opacity(1),
            "=": lambda: controls.turn_opacity(1),
            "e": controls.next_effect,
            "l": lambda: controls.toggle("legend"),
            "r": lambda: controls.toggle("recording"),
            "h": self._toggle_help,
        }

    def write(self, segmented: SegmentedFrame) -> None:
        """Shows the picture and reads the keys."""
        if self._picture is None:
            height, width = segmented.picture.shape[:2]
            flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
            cv2.namedWindow(self._title, flags)
            cv2.resizeWindow(self._title, width, height)
            self._help_until = time.perf_counter() + HELP_SECONDS
        self._picture = segmented.picture
        self._show()
        self._read_keys()

    def poll(self) -> None:
        """Reads the keys while no picture comes, as in a pause. Controls.hold calls it."""
        if self._picture is not None:
            self._show()
            self._read_keys()

    def close(self) -> None:
        """Closes the window."""
        if self._picture is not None:
            self._picture = None
            cv2.destroyWindow(self._title)
            cv2.waitKey(1)  # it goes when its events are seen to

    def __enter__(self) -> WindowSink:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _show(self) -> None:
        assert self._picture is not None
        picture = cv2.cvtColor(self._picture, cv2.COLOR_RGB2BGR)
        if self._help_until is not None and time.perf_counter() < self._help_until:
            _draw_help(picture)
        if self._controls.settings.recording:
            radius = max(4, picture.shape[0] // 60)
            place = (picture.shape[1] - 2 * radius, 2 * radius)
            cv2.circle(picture, place, radius, RECORDING_COLOR[::-1], cv2.FILLED, cv2.LINE_AA)
        cv2.imshow(self._title, picture)

    def _read_keys(self) -> None:
        while (code := cv2.waitKey(1)) != -1:
            action = self._actions.get(chr(code & 0xFF))
            if action is not None:
                if code & 0xFF != ord("h"):
                    self._help_until = 0.0
                action()
        # The user closed it.
        if cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1:
            self._controls.quit()

    def _toggle_help(self) -> None:
        shown = self._help_until is not None and time.perf_counter() < self._help_until
        self._help_until = 0.0 if shown else float("inf")


def _draw_help(picture: Image) -> None:
    """Lists the keys in the upper left corner; the picture (BGR) is changed in place."""
    row = max(16, picture.shape[0] // ROWS_PER_IMAGE)
    scale = max(SMALLEST_TEXT, row / 40)
    keys = max(cv2.getTextSize(key, FONT, scale, 1)[0][0] for key, _ in HELP)
    words = max(cv2.getTextSize(text, FONT, scale, 1)[0][0] for _, text in HELP)
    panel = picture[: row * (len(HELP) + 1), : keys + words + 2 * row]
    panel[:] = panel // 4  # dark, and what is behind it still to be seen
    for line, (key, text) in enumerate(HELP, start=1):
        for left, word in ((row // 2, key), (keys + row, text)):
            place = (left, line * row + row // 4)
            cv2.putText(picture, word, place, FONT, scale, TEXT_COLOR, 1, cv2.LINE_AA)
