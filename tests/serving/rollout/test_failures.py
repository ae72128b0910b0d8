"""What fails in the middle is undone, or is said with the way out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from rollout_desk import UNDO, Checks, Desk, available, fail

from segkit.errors import (
    ConfigError,
    ExportError,
    PredictionTimeout,
    ServerError,
    ServerUnavailable,
)
from segkit.serving.rollout.control import ModelControl
from segkit.serving.rollout.place import Place
from segkit.serving.rollout.waiting import Waiting
from segkit.serving.rollout.work import Work


def test_a_version_that_cannot_be_loaded_is_taken_out_again(desk: Desk) -> None:
    before = desk.site.config_file.read_bytes()
    desk.site.put("broken", 3)
    with pytest.raises(ExportError) as caught:
        desk.rollout(3)
    assert "version 3 of 'segkit' cannot be loaded:" in caught.value.problem
    assert "undone, so that now serves what did before: version 1 (stable)" in caught.value.problem
    assert desk.site.config_file.read_bytes() == before
    assert available(desk) == [1] and desk.site.labels == {"stable": 1}
    assert desk.history.records == []


def test_a_mended_version_is_not_judged_by_its_first_life(desk: Desk) -> None:
    desk.site.put("broken", 3)
    with pytest.raises(ExportError):
        desk.rollout(3)
    (desk.site.base_path / "3" / "is_broken").unlink()
    assert desk.rollout(3).served.stable == 3


def test_a_version_that_is_not_there_is_named(desk: Desk) -> None:
    with pytest.raises(ExportError, match="does not load version 9.*unknown to the server.*undone"):
        desk.rollout(9)
    assert available(desk) == [1]


def test_a_version_that_takes_too_long_is_given_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = threading.Event()
    load = desk.site.server._load_version

    def wait_and_load(name: str, path: Path) -> Any:
        slow.wait(20)
        return load(name, path)

    monkeypatch.setattr(
        desk.site.server.models._managers["segkit"], "_load_servable", wait_and_load
    )
    desk.waiting = Waiting(load=0.3, seen=0.2, unload=0.1, look=0.02, say=desk.lines.append)
    with pytest.raises(ExportError, match="is not available after 0 s: LOADING"):
        desk.rollout(2)
    slow.set()
    assert "  version 2: LOADING, loads and warms up (0 s)" in desk.lines
    assert desk.site.labels == {"stable": 1}


def test_what_the_checks_refuse_is_taken_out_again(desk: Desk) -> None:
    with pytest.raises(ExportError, match="it is no good; undone") as caught:
        desk.rollout(2, fail())
    assert caught.value.next_step == "make it better"
    assert desk.site.states == {2: "END", 1: "AVAILABLE"}
    assert desk.history.records == []


def test_what_is_refused_before_loading_never_reaches_the_server(desk: Desk) -> None:
    checks = Checks()
    checks.before_loading = lambda serving: fail().after()  # type: ignore[method-assign]
    with pytest.raises(ExportError, match="^it is no good\\n"):
        desk.rollout(2, checks)
    assert desk.site.states == {1: "AVAILABLE"}


def test_ctrl_c_undoes_and_says_so(desk: Desk) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.rollout(2, Checks(interrupt))
    assert "undone, so that now serves what did before: version 1 (stable)" in desk.lines[-1]
    assert available(desk) == [1]


def test_ctrl_c_while_it_is_undone_says_what_may_be_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Place, "put_back", interrupt)
    with pytest.raises(KeyboardInterrupt):
        desk.rollout(2, Checks(interrupt))
    assert "could not be undone (interrupted again): version 2 may be loaded" in desk.lines[-1]
    assert UNDO in desk.lines[-1]


def test_a_server_that_goes_away_in_the_middle(desk: Desk) -> None:
    def stop() -> None:
        desk.site.server.stop()
        raise ServerUnavailable("gone")

    with pytest.raises(ServerUnavailable, match="gone; it could not be undone") as caught:
        desk.rollout(2, Checks(stop))
    assert "version 2 may be loaded" in caught.value.problem
    assert UNDO in caught.value.next_step and "same command again" in caught.value.next_step
    desk.site.restart()
    assert available(desk) == [1] and desk.history.under_way is not None
    assert str(desk.rollout(2).served) == "version 1, version 2 (stable)"


def test_a_server_that_comes_back_is_put_right(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    put_back = Place.put_back
    tries: list[int] = []

    def away_at_first(self: Place) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ServerUnavailable("gone")
        put_back(self)

    monkeypatch.setattr(Place, "put_back", away_at_first)
    with pytest.raises(ExportError, match="it is no good; undone"):
        desk.rollout(2, fail())
    assert available(desk) == [1]


class Killed(BaseException):
    """As if the process ended here."""


def kill_in(monkeypatch: pytest.MonkeyPatch, *names: tuple[type, str]) -> None:
    def die(*args: Any, **kwargs: Any) -> Any:
        raise Killed

    for owner, name in names:
        monkeypatch.setattr(owner, name, die)


@pytest.fixture
def killed_before_the_label(desk: Desk) -> Desk:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, (Work, "_undo"))
        desk.rollout(2, fail())
    assert available(desk) == [1, 2] and desk.site.labels == {"stable": 1}
    return desk


@pytest.fixture
def killed_before_the_file(desk: Desk) -> Desk:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, (Work, "_undo"), (Place, "write"))
        desk.rollout(2)
    assert desk.site.labels == {"stable": 2}
    assert dict(desk.site.config.version_labels) == {"stable": 1}
    return desk


@pytest.mark.parametrize("when", ["killed_before_the_label", "killed_before_the_file"])
def test_after_a_kill_the_same_command_goes_on(when: str, request: Any) -> None:
    desk: Desk = request.getfixturevalue(when)
    desk.rollout(2)
    assert desk.site.labels == {"stable": 2}
    assert dict(desk.site.config.version_labels) == {"stable": 2}
    assert [record.finished for record in desk.history.records] == [True]
    assert str(desk.rollback().served) == "version 1 (stable)"


@pytest.mark.parametrize("when", ["killed_before_the_label", "killed_before_the_file"])
def test_after_a_kill_rollback_undoes(when: str, request: Any) -> None:
    desk: Desk = request.getfixturevalue(when)
    outcome = desk.rollback()
    assert str(outcome.served) == "version 1 (stable)"
    assert available(desk) == [1] and desk.site.labels == {"stable": 1}
    assert desk.history.records == []


def test_after_a_kill_another_version_is_refused(killed_before_the_label: Desk) -> None:
    desk = killed_before_the_label
    desk.site.put("same", 3)
    with pytest.raises(ConfigError, match="rollout to version 2 was interrupted") as caught:
        desk.rollout(3)
    assert f"`{UNDO}` undoes it; --version 2 goes on" in caught.value.next_step
    assert str(desk.rollback(to=1).served) == "version 1 (stable)"
    assert desk.rollout(3).served.stable == 3


def test_a_rollback_that_was_killed_goes_on(desk: Desk) -> None:
    desk.rollout(2)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, (Work, "drop"))
        desk.rollback()
    assert available(desk) == [1, 2] and desk.site.labels == {"stable": 1}
    assert str(desk.rollback().served) == "version 1 (stable)"
    assert available(desk) == [1]


def test_a_file_that_cannot_be_written_undoes_all(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, text: str) -> None:
        raise ConfigError(f"'{path}' cannot be written: No space left on device")

    monkeypatch.setattr("segkit.serving.rollout.place.replace_text", refuse)
    with pytest.raises(ConfigError, match="No space left on device; undone"):
        desk.rollout(2)
    assert available(desk) == [1] and desk.site.labels == {"stable": 1}


def test_an_answer_that_comes_too_late_may_have_been_obeyed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    reload = ModelControl.reload
    calls: list[Any] = []

    def obey_without_an_answer(self: ModelControl, config: Any, *, model: str) -> None:
        reload(self, config, model=model)
        calls.append(config)
        if len(calls) == 2:  # the label
            raise PredictionTimeout("the server did not answer in time")

    monkeypatch.setattr(ModelControl, "reload", obey_without_an_answer)
    with pytest.raises(PredictionTimeout, match="did not answer in time; undone"):
        desk.rollout(2)
    assert desk.site.labels == {"stable": 1} and available(desk) == [1]


def test_labels_that_another_moves_back_are_noticed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        ModelControl, "labeled", lambda self, model, label: 1 if label == "stable" else None
    )
    with pytest.raises(ServerError, match="took the labels {'stable': 2}, but has {'stable': 1}"):
        desk.rollout(2)


def test_old_versions_that_cannot_be_dropped_leave_the_new_one_stable(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = Place.serve

    def refuse(self: Place, wanted: Any) -> None:
        if wanted.versions == {2}:
            raise ServerUnavailable("gone")
        serve(self, wanted)

    monkeypatch.setattr(Place, "serve", refuse)
    with pytest.raises(ServerUnavailable, match="the labels have moved") as caught:
        desk.rollout(2, drop_old=True)
    assert "same command again" in caught.value.next_step
    monkeypatch.undo()
    assert str(desk.rollout(2, drop_old=True).served) == "version 2 (stable)"
