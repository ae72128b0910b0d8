"""Controls take what they can have, from any thread, and say what they cannot."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from segkit.errors import ConfigError
from segkit.video import Controls, Settings


def make(**settings: Any) -> Controls:
    return Controls(Settings(**settings), effects=("overlay", "blur", "mask"), can_record=True)


def test_settings_change_together_and_the_others_stay() -> None:
    controls = make(legend=False)
    assert controls.change(opacity=0.25, effect="blur") == controls.settings
    assert controls.settings == Settings(opacity=0.25, effect="blur", legend=False)


@pytest.mark.parametrize(
    ("changes", "problem", "expected"),
    [
        ({"opacity": 1.2}, "the opacity is 1.2", "0 to 1"),
        ({"opacity": "much"}, "the opacity is 'much'", "0 to 1"),
        ({"opacity": True}, "the opacity is True", "0 to 1"),
        ({"opacity": float("nan")}, "the opacity is nan", "0 to 1"),
        ({"effect": "rain"}, "no effect 'rain'", "overlay, blur, mask"),
        ({"effect": ["blur"]}, "no effect", "overlay, blur, mask"),
        ({"legend": 1}, "the control legend is 1", "true or false"),
        ({"volume": 3}, "no control of the name volume", "opacity, effect"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    changes: dict[str, Any], problem: str, expected: str
) -> None:
    controls = make()
    with pytest.raises(ConfigError, match=problem) as caught:
        controls.change(paused=True, **changes)
    assert expected in caught.value.expected
    assert controls.settings == Settings()


def test_recording_needs_something_that_records() -> None:
    controls = Controls()
    with pytest.raises(ConfigError, match="nothing to record to"):
        controls.change(recording=True)
    controls.toggle("recording")
    assert not controls.settings.recording
    able = make()
    able.toggle("recording")
    assert able.settings.recording


def test_steps_stay_within_their_range() -> None:
    controls = make(opacity=0.85)
    for _ in range(3):
        controls.turn_opacity(1)
    assert controls.settings.opacity == 1
    controls.turn_opacity(-1)
    assert controls.settings.opacity == 0.9
    opacities = []
    for _ in range(6):
        controls.next_opacity()
        opacities.append(controls.settings.opacity)
    assert opacities == [1, 0, 0.25, 0.5, 0.75, 1]
    names = []
    for _ in range(4):
        controls.next_effect()
        names.append(controls.settings.effect)
    assert names == ["blur", "mask", "overlay", "blur"]


def test_a_snapshot_is_taken_once_for_each_request() -> None:
    controls = make()
    assert not controls.take_snapshot_request()
    controls.request_snapshot()
    assert controls.take_snapshot_request()
    assert not controls.take_snapshot_request()


@pytest.mark.parametrize("way", ["resume", "quit"])
def test_a_pause_holds_until_it_ends_and_polls_meanwhile(way: str) -> None:
    controls = make(paused=True)
    polls: list[float] = []
    held = threading.Thread(target=controls.hold, args=(lambda: polls.append(time.perf_counter()),))
    held.start()
    while len(polls) < 3:
        time.sleep(0.01)
    assert held.is_alive()
    if way == "resume":
        controls.toggle("paused")
    else:
        controls.quit()
    held.join(5)
    assert not held.is_alive()
    assert controls.quitting == (way == "quit")


def test_without_a_pause_nothing_is_held() -> None:
    controls = make()
    controls.hold(lambda: pytest.fail("polled"))


def test_threads_lose_no_change() -> None:
    controls = Controls(Settings(opacity=0))

    def up() -> None:
        for _ in range(200):
            controls.toggle("legend")

    threads = [threading.Thread(target=up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert controls.settings.legend
