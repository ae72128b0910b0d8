"""Whether this machine has a display: asked before OpenCV is, which aborts where there is none."""

from __future__ import annotations

import os
import subprocess
import sys

from segkit.errors import VideoError

__all__ = ["check_display"]

PROBE = "import cv2; cv2.namedWindow('segkit'); cv2.waitKey(1); cv2.destroyAllWindows()"
PROBE_SECONDS = 30.0
VARIABLES = ("DISPLAY", "WAYLAND_DISPLAY")


def check_display() -> None:
    """Returns if a window can be opened.

    Raises:
        VideoError: It cannot, with the reason.
    """
    if sys.platform.startswith("linux") and not any(map(os.environ.get, VARIABLES)):
        raise _no_display(f"{' and '.join(VARIABLES)} are not set")
    # A display that is named and does not answer makes Qt end the process: better another one.
    try:
        probe = subprocess.run(
            [sys.executable, "-c", PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise _no_display(f"it did not answer within {PROBE_SECONDS:g} s") from err
    if probe.returncode:
        lines = [line.strip() for line in probe.stderr.splitlines() if line.strip()]
        told = [line for line in lines if "display" in line or "not implemented" in line]
        raise _no_display((told or lines or [f"exit status {probe.returncode}"])[0])


def _no_display(reason: str) -> VideoError:
    return VideoError(
        f"there is no display for a window ({reason})",
        expected="a desktop, or an ssh session with X forwarding (ssh -X)",
        next_step="--view 127.0.0.1:8080 shows the stream in a browser, --output file.mp4 keeps it",
    )
