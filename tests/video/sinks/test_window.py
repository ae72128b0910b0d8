"""WindowSink shows pictures where there is a display, and is one sentence where there is none."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from segkit.errors import VideoError
from segkit.video import Controls, Frame, SegmentedFrame, WindowSink
from segkit.video.sinks import check_display, display, window

COLOR = (30, 90, 160)
SHOW = f"""
import sys, time
from fractions import Fraction
import numpy as np
from segkit.video import Controls, Frame, SegmentedFrame, WindowSink

controls = Controls(effects=("overlay", "blur"), can_record=True)
picture = np.full((240, 320, 3), {COLOR}, np.uint8)
with WindowSink(controls, title="cam0") as sink:
    index = 0
    while not controls.quitting:
        controls.hold(sink.poll)
        sink.write(SegmentedFrame(Frame(picture, index, Fraction(index)), picture[..., 0], picture))
        print(controls.settings, flush=True)
        index += 1
print("closed", flush=True)
"""


def segmented(index: int) -> SegmentedFrame:
    picture = np.full((240, 320, 3), COLOR, np.uint8)
    return SegmentedFrame(Frame(picture, index, Fraction(index)), picture[..., 0], picture)


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in display.VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.usefixtures("no_display")
def test_no_display_is_one_sentence_that_names_the_alternatives() -> None:
    with pytest.raises(VideoError, match="DISPLAY and WAYLAND_DISPLAY are not set") as caught:
        WindowSink(Controls())
    assert "--view" in caught.value.next_step
    assert "--output" in caught.value.next_step


def test_a_display_that_does_not_answer_does_not_abort(
    monkeypatch: pytest.MonkeyPatch, no_display: None
) -> None:
    monkeypatch.setenv("DISPLAY", ":4711")
    with pytest.raises(VideoError, match="could not connect to display :4711"):
        check_display()


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        ("import time; time.sleep(60)", "did not answer within 0.2 s"),
        ("import sys; sys.exit('The function is not implemented')", "is not implemented"),
        ("import os; os.abort()", "exit status -6"),
    ],
)
def test_what_a_probe_says_is_the_reason(
    monkeypatch: pytest.MonkeyPatch, probe: str, reason: str
) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(display, "PROBE", probe)
    if "sleep" in probe:
        monkeypatch.setattr(display, "PROBE_SECONDS", 0.2)
    with pytest.raises(VideoError, match=reason):
        check_display()


class Desktop:
    """Stands in for OpenCV's windows: keys are taken from a list, pictures kept."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.open = False
        self.picture = np.zeros((1, 1, 3), np.uint8)

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(window, "check_display", lambda: None)
        monkeypatch.setattr(cv2, "namedWindow", lambda title, flags: setattr(self, "open", True))
        monkeypatch.setattr(cv2, "resizeWindow", lambda title, width, height: None)
        monkeypatch.setattr(cv2, "destroyWindow", lambda title: setattr(self, "open", False))
        monkeypatch.setattr(cv2, "getWindowProperty", lambda title, which: float(self.open))
        monkeypatch.setattr(cv2, "waitKey", lambda ms: ord(self.keys.pop(0)) if self.keys else -1)
        monkeypatch.setattr(cv2, "imshow", lambda title, picture: setattr(self, "picture", picture))


@pytest.fixture
def desktop(monkeypatch: pytest.MonkeyPatch) -> Desktop:
    desktop = Desktop()
    desktop.patch(monkeypatch)
    return desktop


@pytest.mark.parametrize(
    ("keys", "done"),
    [
        ("q", lambda controls: controls.quitting),
        ("\x1b", lambda controls: controls.quitting),
        (" ", lambda controls: controls.settings.paused),
        ("s", lambda controls: controls.take_snapshot_request()),
        ("o", lambda controls: controls.settings.opacity == 0.75),
        ("-", lambda controls: controls.settings.opacity == 0.4),
        ("+=", lambda controls: controls.settings.opacity == 0.7),
        ("e", lambda controls: controls.settings.effect == "blur"),
        ("l", lambda controls: not controls.settings.legend),
        ("r", lambda controls: controls.settings.recording),
        ("xyz", lambda controls: controls.settings == Controls().settings),
    ],
)
def test_keys_move_the_controls(
    desktop: Desktop, keys: str, done: Callable[[Controls], bool]
) -> None:
    controls = Controls(effects=("overlay", "blur"), can_record=True)
    with WindowSink(controls) as sink:
        sink.write(segmented(0))
        assert not done(controls) or keys == "xyz"
        desktop.keys += keys
        sink.write(segmented(1))
        assert done(controls)
    assert not desktop.open


def test_keys_are_read_in_a_pause(desktop: Desktop) -> None:
    controls = Controls()
    with WindowSink(controls) as sink:
        sink.poll()  # before there is anything to show
        desktop.keys += " "
        sink.write(segmented(0))
        assert controls.settings.paused
        desktop.keys += " "
        controls.hold(sink.poll)
        assert not controls.settings.paused


def test_closing_the_window_is_the_end(desktop: Desktop) -> None:
    controls = Controls()
    with WindowSink(controls) as sink:
        sink.write(segmented(0))
        assert not controls.quitting
        desktop.open = False
        sink.write(segmented(1))
    assert controls.quitting


def test_help_is_shown_on_the_first_frame_and_goes_with_a_key(desktop: Desktop) -> None:
    given = segmented(0)
    before = given.picture.copy()
    with WindowSink(Controls()) as sink:
        sink.write(given)
        helped = desktop.picture
        assert (helped > 200).any()
        desktop.keys += "l"
        sink.write(segmented(1))
        sink.write(segmented(2))
        assert desktop.picture[..., ::-1].reshape(-1, 3).tolist() == [[*COLOR]] * 240 * 320
        desktop.keys += "h"
        sink.write(segmented(3))
        sink.write(segmented(4))
        np.testing.assert_array_equal(desktop.picture, helped)
    np.testing.assert_array_equal(given.picture, before)  # others write it too


def test_a_recording_is_marked(desktop: Desktop) -> None:
    controls = Controls(can_record=True)
    controls.change(recording=True)
    with WindowSink(controls) as sink:
        sink.write(segmented(0))
    assert desktop.picture[8, 312].tolist() == [*reversed(window.RECORDING_COLOR)]


# It would begin anew, windows and all, whenever its last client left, as the probe does.
XVFB = ("Xvfb", "-screen", "0", "640x480x24", "-noreset")


class Screen:
    """An X server without a screen, whose pixels lie in a file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "Xvfb_screen0"
        read, write = os.pipe()
        self._server = subprocess.Popen(
            [*XVFB, "-displayfd", str(write), "-fbdir", str(folder)],
            pass_fds=(write,),
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with os.fdopen(read) as file:
            self.display = f":{file.readline().strip()}"

    def pixels(self) -> np.ndarray:
        data = self._file.read_bytes()
        header, colors = (int.from_bytes(data[at : at + 4], "big") for at in (0, 76))
        start = header + 12 * colors
        return np.frombuffer(data, np.uint8, 640 * 480 * 4, start).reshape(480, 640, 4)[..., 2::-1]

    def stop(self) -> None:
        self._server.terminate()
        self._server.wait()


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb (apt-get install xvfb), which is absent here")
    running = Screen(tmp_path)
    try:
        yield running
    finally:
        running.stop()


def test_a_window_shows_the_picture_and_takes_keys(screen: Screen) -> None:
    environment = {**os.environ, "DISPLAY": screen.display}
    shown = subprocess.Popen(
        [sys.executable, "-c", SHOW], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert shown.stdout is not None
    try:
        assert "paused=False" in shown.stdout.readline()
        end = time.perf_counter() + 60
        while (screen.pixels() == COLOR).all(-1).sum() < 320 * 240 / 2:
            assert time.perf_counter() < end
            shown.stdout.readline()
        if shutil.which("xdotool") is None:
            pytest.skip("the keys need xdotool (apt-get install xdotool), which is absent here")
        for key, effect in (("plus", "opacity=0.6"), ("e", "effect='blur'"), ("q", "closed")):
            subprocess.run(
                ["xdotool", "search", "--name", "cam0", "windowfocus", "key", key],
                env=environment,
                check=True,
            )
            while effect not in (line := shown.stdout.readline()):
                assert line, f"ended before {effect}"
                assert time.perf_counter() < end, f"{line.strip()} after {key}"
        assert shown.wait(20) == 0
    finally:
        shown.stdout.close()
        if shown.poll() is None:
            shown.send_signal(signal.SIGKILL)
            shown.wait()
