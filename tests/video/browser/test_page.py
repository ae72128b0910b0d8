"""The page in a real browser: the picture moves, controls and keys work, it fits every screen."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest

from segkit.labels import LabelMap
from segkit.video import Controls, Frame, PageSink, SegmentedFrame

DESKTOP, PHONE = (1280, 800), (390, 844)
SHOWN = "document.getElementById('notice').hidden"
# The mean colour of what the canvas shows.
SHADE = """(() => {
  const c = document.getElementById('picture');
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let sum = 0; for (let i = 0; i < d.length; i += 4) sum += d[i];
  return 4 * sum / d.length; })()"""


class Stream:
    """Writes frames, each a shade brighter than the last, until it is paused or closed."""

    def __init__(self, labels: LabelMap) -> None:
        self.controls = Controls(effects=("overlay", "side_by_side"), can_record=True)
        self.labels = labels
        self.open()

    def open(self, address: str = "127.0.0.1:0") -> None:
        self.page = PageSink(
            address, self.labels, self.controls, title="cam0", dropped=lambda: {"stale": 7}
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.page.close()

    def _run(self) -> None:
        index = 0
        mask = np.zeros((480, 640), np.uint8)
        mask[:120] = 1
        while not self._ended.wait(0.04):
            index += not self.controls.settings.paused
            picture = np.full((480, 640, 3), (index * 4 % 256, 90, 160), np.uint8)
            frame = Frame(picture, index, Fraction(index, 25))
            self.page.write(SegmentedFrame(frame, mask, picture, stage_ms={"server": 12.0}))


@pytest.fixture
def stream(labels: LabelMap) -> Iterator[Stream]:
    running = Stream(labels)
    try:
        yield running
    finally:
        running.close()


def open_page(browser: Any, stream: Stream, size: tuple[int, int] = DESKTOP) -> Any:
    page = browser.open(stream.page.url, *size, phone=size == PHONE)
    page.wait(f"document.readyState === 'complete' && {SHOWN} && document.title !== 'segkit'")
    return page


def eventually(true: Any, seconds: float = 20) -> None:
    end = time.perf_counter() + seconds
    while not true():
        assert time.perf_counter() < end
        time.sleep(0.02)


def pixels(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def test_the_picture_moves_and_figures_tell_of_it(browser: Any, stream: Stream) -> None:
    page = open_page(browser, stream)
    first = page.run(SHADE)
    page.wait(f"Math.abs({SHADE} - {first}) > 3")
    one = pixels(page.screenshot())
    eventually(lambda: (pixels(page.screenshot()) != one).any())
    assert page.run("document.title") == "cam0 · segkit"
    assert page.wait("parseFloat(document.getElementById('fps').textContent)") > 1
    assert page.run("document.getElementById('dropped').textContent") == "7"
    assert page.run("document.getElementById('state').textContent") == "Live"
    assert page.run("document.getElementById('stages').textContent") == "server12.0"
    classes = page.run("[...document.querySelectorAll('#classes li')].map(e => e.innerText)")
    assert [entry.split() for entry in classes] == [
        ["background", "75.0", "%"],
        ["road", "25.0", "%"],
        ["car", "0.0", "%"],
    ]
    swatch = "getComputedStyle(document.querySelectorAll('#classes i')[1]).backgroundColor"
    assert page.run(swatch) == "rgb(128, 64, 128)"
    page.close()


def test_controls_are_moved_with_the_mouse(browser: Any, stream: Stream) -> None:
    page = open_page(browser, stream)
    settings = stream.controls
    page.click("#paused")
    eventually(lambda: settings.settings.paused)
    page.wait("document.getElementById('state').textContent === 'Paused'")
    assert page.run("document.getElementById('paused').getAttribute('aria-pressed')") == "true"
    still = page.run(SHADE)
    time.sleep(0.3)
    assert page.run(SHADE) == still
    page.click("#paused")
    page.wait("document.getElementById('state').textContent === 'Live'")
    page.click("#legend")
    eventually(lambda: not settings.settings.legend)
    page.click("#record")
    eventually(lambda: settings.settings.recording)
    page.wait("!document.getElementById('recording').hidden")
    page.click("#opacity")  # in its middle, where it is
    assert settings.settings.opacity == 0.5
    page.run(
        "(() => { const e = document.getElementById('opacity'); e.value = 20;"
        "e.dispatchEvent(new Event('input')); })()"
    )
    eventually(lambda: settings.settings.opacity == 0.2)
    page.run(
        "(() => { const e = document.getElementById('effect'); e.value = 'side_by_side';"
        "e.dispatchEvent(new Event('change')); })()"
    )
    eventually(lambda: settings.settings.effect == "side_by_side")
    page.close()


def test_controls_are_moved_with_keys(browser: Any, stream: Stream) -> None:
    page = open_page(browser, stream)
    settings = stream.controls
    page.press(" ")
    eventually(lambda: settings.settings.paused)
    for key, opacity in (("o", 0.75), ("-", 0.65), ("+", 0.75)):
        page.press(key)
        eventually(lambda opacity=opacity: settings.settings.opacity == opacity)
    page.press("e")
    eventually(lambda: settings.settings.effect == "side_by_side")
    page.press("l")
    eventually(lambda: not settings.settings.legend)
    page.press("r")
    eventually(lambda: settings.settings.recording)
    # Every control can be reached and seen by who has no mouse.
    reached = []
    for _ in range(8):
        page.press_tab()
        reached.append(page.run("document.activeElement.id"))
    assert reached[:7] == [
        "paused",
        "snapshot",
        "record",
        "fullscreen",
        "effect",
        "opacity",
        "legend",
    ]
    page.close()


def test_what_another_viewer_moves_is_seen(browser: Any, stream: Stream) -> None:
    page = open_page(browser, stream)
    stream.controls.change(opacity=0.9, effect="side_by_side", legend=False, paused=True)
    page.wait("document.getElementById('opacity').value === '90'")
    assert page.run("document.getElementById('effect').value") == "side_by_side"
    assert page.run("document.getElementById('legend').checked") is False
    page.wait("document.getElementById('paused').innerText === 'Resume'")
    page.close()


def test_a_page_that_lost_its_stream_says_so_and_comes_back(browser: Any, stream: Stream) -> None:
    page = open_page(browser, stream)
    address = stream.page.url.removeprefix("http://").removesuffix("/")
    stream.close()
    page.wait("document.getElementById('state').textContent === 'Offline'")
    assert "Trying again" in page.run("document.getElementById('notice').textContent")
    stream.open(address)
    page.wait("document.getElementById('state').textContent === 'Live'")
    shade = page.run(SHADE)
    page.wait(f"Math.abs({SHADE} - {shade}) > 3")
    page.close()


def test_a_hidden_page_does_not_load_the_picture(browser: Any, stream: Stream) -> None:
    page = open_page(browser, stream)
    eventually(lambda: stream.page._viewers == 1)
    hide = "Object.defineProperty(document, 'hidden', {{value: {0}, configurable: true}});"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    page.run(hide.format("true") + tell)
    eventually(lambda: stream.page._viewers == 0)
    time.sleep(1.5)  # longer than it takes to try again
    assert stream.page._viewers == 0
    page.run(hide.format("false") + tell)
    eventually(lambda: stream.page._viewers == 1)
    page.close()


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (320, 568), (1920, 1080)])
def test_it_fits_the_screen(browser: Any, stream: Stream, size: tuple[int, int]) -> None:
    page = open_page(browser, stream, size)
    page.wait("document.querySelectorAll('#classes li').length === 3")
    width = size[0]
    assert page.run("document.documentElement.scrollWidth") <= width
    outside = page.run(
        "[...document.querySelectorAll('body *')].filter(e => {"
        "const r = e.getBoundingClientRect();"
        f"return r.width && (r.left < -0.5 || r.right > {width} + 0.5); }}).map(e => e.outerHTML)"
    )
    assert outside == []
    # No word is cut: what has text is as wide as its text.
    cut = page.run(
        "[...document.querySelectorAll('button span, a span, .figures span, b, h2, label, dt, dd')]"
        ".filter(e => e.scrollWidth > e.parentElement.clientWidth).map(e => e.textContent)"
    )
    assert cut == []
    # The picture and what moves it are on the first screen.
    bottom = page.run("document.querySelector('.toolbar').getBoundingClientRect().bottom")
    assert bottom <= size[1]
    shape = page.run(
        "(() => { const r = document.getElementById('picture').getBoundingClientRect();"
        "return r.width / r.height; })()"
    )
    assert shape > 1.2
    page.close()


def test_fingers_find_the_controls(browser: Any, stream: Stream) -> None:
    page = open_page(browser, stream, PHONE)
    small = page.run(
        "[...document.querySelectorAll('button, a, select')].filter(e => !e.closest('[hidden]') &&"
        "e.offsetParent && e.getBoundingClientRect().height < 40).map(e => e.id)"
    )
    assert small == []
    page.close()
