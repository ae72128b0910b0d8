"""rollout and rollback on the embedded server: what serves after each step and each failure."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_versions import Site, served, write_stand_ins, write_versions

from segkit.client import RemoteSegmenter
from segkit.contract import Metadata
from segkit.errors import (
    ConfigError,
    ExportError,
    ModelNotFound,
    PredictionTimeout,
    SegkitError,
    ServerError,
    ServerUnavailable,
)
from segkit.serving.rollout.control import ModelControl
from segkit.serving.rollout.history import History, one_at_a_time
from segkit.serving.rollout.place import Place
from segkit.serving.rollout.steps import Outcome, rollback, rollout
from segkit.serving.rollout.waiting import Waiting
from segkit.serving.rollout.work import Work

UNDO = "segkit rollback"
LATEST = "model_version_policy { latest { num_versions: 1 } }"


class Checks:
    """Passes every version, unless told what to do after it has loaded."""

    def __init__(self, after: Callable[[], object] = lambda: None) -> None:
        self.after = after
        self.serving: list[int | None] = []

    def before_loading(self, serving: int | None) -> None:
        self.serving.append(serving)

    def after_loading(self, serving: int | None) -> None:
        self.serving.append(serving)
        self.after()


class Desk:
    """Rolls out on a site, and keeps what was said."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.lines: list[str] = []
        self.waiting = Waiting(
            load=30, seen=1, drain=0.05, back=0.2, look=0.02, say=self.lines.append
        )

    def place(self, control: ModelControl) -> Place:
        return Place(control, "segkit", config_file=self.site.config_file, say=self.lines.append)

    def rollout(self, version: int, checks: Checks | None = None, **wanted: bool) -> Outcome:
        with ModelControl(self.site.server.address) as control:
            return rollout(
                self.place(control),
                version,
                checks or Checks(),
                undo=UNDO,
                waiting=self.waiting,
                **wanted,
            )

    def rollback(self, to: int | None = None) -> Outcome:
        with ModelControl(self.site.server.address) as control:
            return rollback(self.place(control), to=to, undo=UNDO, waiting=self.waiting)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def history(self) -> History:
        path = self.site.config_file.with_name("models.config.rollouts.json")
        return History(path, "segkit")


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stand_ins(tmp_path_factory.mktemp("versions"))


@pytest.fixture
def site(versions: Path, tmp_path: Path) -> Iterator[Site]:
    with served(versions, tmp_path, stand_ins=True) as site:
        yield site


@pytest.fixture
def desk(site: Site) -> Desk:
    site.put("same", 2)
    return Desk(site)


@pytest.fixture
def latest(versions: Path, tmp_path: Path) -> Iterator[Desk]:
    with served(versions, tmp_path, LATEST, stand_ins=True) as site:
        yield Desk(site)


def available(desk: Desk) -> list[int]:
    return sorted(number for number, state in desk.site.states.items() if state == "AVAILABLE")


def fail(problem: str = "it is no good") -> Checks:
    def refuse() -> None:
        raise ExportError(problem, next_step="make it better")

    return Checks(refuse)


def test_the_label_moves_and_the_old_version_stays_for_a_rollback(desk: Desk) -> None:
    checks = Checks()
    outcome = desk.rollout(2, checks)
    assert checks.serving == [1, 1]
    assert (outcome.version, outcome.before, outcome.changed) == (2, 1, True)
    assert str(outcome.served) == "version 1, version 2 (stable)"
    assert available(desk) == [1, 2] and desk.site.labels == {"stable": 2}
    assert list(desk.site.config.model_version_policy.specific.versions) == [1, 2]
    assert dict(desk.site.config.version_labels) == {"stable": 2}
    assert "version 2: AVAILABLE" in desk.text
    (record,) = desk.history.records
    assert (record.action, record.version, record.before) == ("rollout", 2, 1)
    assert record.finished


def test_clients_are_served_throughout(
    tiny_export: Path, tiny_model: Any, tiny_metadata: Metadata, tmp_path: Path
) -> None:
    """By label and without any: while versions come, move, fail and go."""
    versions = write_versions(tiny_export, tiny_model, tiny_metadata, tmp_path / "versions")
    failures: list[BaseException] = []
    answers = {"stable": 0, "": 0}
    done = threading.Event()
    image = np.zeros((1, 64, 96, 3), np.uint8)

    def keep_predicting(server: str, label: str) -> None:
        with RemoteSegmenter(server, label=label or None) as segmenter:
            while not done.is_set():
                try:
                    segmenter.segment(image)
                    answers[label] += 1
                except ServerError as err:
                    failures.append(err)

    with served(versions, tmp_path) as site:
        desk = Desk(site)
        threads = [
            threading.Thread(target=keep_predicting, args=(site.server.address, label))
            for label in answers
        ]
        for thread in threads:
            thread.start()
        for name, number in (("swapped", 2), ("same", 3), ("broken", 4)):
            site.put(name, number)
        desk.rollout(2, drop_old=True)
        desk.rollback()
        desk.rollout(3, canary=True)
        desk.rollback()
        for checks, version in ((fail(), 3), (Checks(), 4)):
            with pytest.raises(ExportError):
                desk.rollout(version, checks)
        desk.rollout(3)
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert min(answers.values()) > 20


def test_a_restart_serves_the_same(desk: Desk) -> None:
    desk.rollout(2)
    desk.site.restart()
    assert available(desk) == [1, 2] and desk.site.labels == {"stable": 2}


def test_old_versions_are_dropped_and_loaded_again_to_go_back(desk: Desk) -> None:
    outcome = desk.rollout(2, drop_old=True)
    assert desk.site.states == {2: "AVAILABLE", 1: "END"}
    assert list(desk.site.config.model_version_policy.specific.versions) == [2]
    assert str(outcome.served) == "version 2 (stable)"
    back = desk.rollback()
    assert (back.version, back.before) == (1, 2)
    assert desk.site.states == {2: "END", 1: "AVAILABLE"}
    assert desk.site.labels == {"stable": 1}
    assert list(desk.site.config.model_version_policy.specific.versions) == [1]


def test_a_canary_leaves_stable_where_it_is_and_is_taken_back(desk: Desk) -> None:
    desk.rollout(2, canary=True)
    assert desk.site.labels == {"stable": 1, "canary": 2}
    assert dict(desk.site.config.version_labels) == {"stable": 1, "canary": 2}
    back = desk.rollback()
    assert str(back.served) == "version 1 (stable)"
    assert desk.site.states == {2: "END", 1: "AVAILABLE"}
    assert desk.site.labels == {"stable": 1}


def test_a_canary_becomes_stable(desk: Desk) -> None:
    desk.rollout(2, canary=True)
    desk.rollout(2)
    assert desk.site.labels == {"stable": 2}
    assert str(desk.rollback().served) == "version 1 (stable)"


def test_a_canary_that_fails_to_become_stable_stays_canary(desk: Desk) -> None:
    desk.rollout(2, canary=True)
    with pytest.raises(ExportError, match=r"version 1 \(stable\), version 2 \(canary\)"):
        desk.rollout(2, fail())
    assert desk.site.labels == {"stable": 1, "canary": 2}
    assert desk.history.under_way is None


def test_a_second_canary_is_refused(desk: Desk) -> None:
    desk.rollout(2, canary=True)
    desk.site.put("same", 3)
    with pytest.raises(ConfigError, match="version 2 of 'segkit' is the canary") as caught:
        desk.rollout(3, canary=True)
    assert UNDO in caught.value.next_step


def test_a_canary_goes_first_and_the_roll_out_before_it_next(desk: Desk) -> None:
    desk.site.put("same", 3)
    desk.rollout(2)
    desk.rollout(3, canary=True)
    assert str(desk.rollback().served) == "version 1, version 2 (stable)"
    assert str(desk.rollback().served) == "version 1 (stable)"


def test_what_is_there_already_is_said_and_left_alone(desk: Desk) -> None:
    desk.rollout(2)
    before = desk.site.config_file.read_bytes()
    outcome = desk.rollout(2, fail())
    assert not outcome.changed and "is there already" in desk.text
    assert desk.site.config_file.read_bytes() == before
    assert len(desk.history.records) == 1
    assert not desk.rollout(2, canary=True).changed
    assert str(desk.rollout(2, drop_old=True).served) == "version 2 (stable)"
    assert available(desk) == [2]


def test_a_second_rollback_undoes_nothing_more(desk: Desk) -> None:
    desk.rollout(2)
    desk.rollback()
    outcome = desk.rollback()
    assert not outcome.changed
    assert re.search("nothing to undo.*since the rollback of.*--to", desk.text)


def test_rollback_to_any_version(desk: Desk) -> None:
    desk.site.put("same", 3)
    desk.rollout(3)
    outcome = desk.rollback(to=2)
    assert str(outcome.served) == "version 1, version 2 (stable)"
    assert available(desk) == [1, 2]
    assert not desk.rollback(to=2).changed


def test_without_a_record_rollback_asks_for_the_version(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="not known what served before") as caught:
        desk.rollback()
    assert "--to" in caught.value.next_step


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


def test_an_older_version_is_rolled_out_with_a_warning(desk: Desk) -> None:
    desk.rollout(2)
    outcome = desk.rollout(1)
    assert str(outcome.served) == "version 1 (stable), version 2"
    assert "note: version 2 is newer" in desk.text


# === The file ===


def test_without_labels_the_newest_version_becomes_stable_first(latest: Desk) -> None:
    (latest.site.base_path / "1").rename(latest.site.base_path / "2")
    latest.site.restart()
    latest.site.put("same", 1)
    checks = Checks()
    latest.rollout(1, checks, canary=True)
    assert checks.serving == [2, 2]
    assert latest.site.labels == {"stable": 2, "canary": 1}


def test_the_only_version_is_pinned_without_a_comparison(latest: Desk) -> None:
    checks = Checks()
    outcome = latest.rollout(1, checks)
    assert checks.serving == [None, None]
    assert str(outcome.served) == "version 1 (stable)"
    latest.site.put("same", 2)  # is not loaded by itself any more
    assert latest.site.labels == {"stable": 1}
    assert list(latest.site.config.model_version_policy.specific.versions) == [1]


def test_permissions_links_and_other_fields_of_the_file_stay(desk: Desk) -> None:
    file = desk.site.config_file
    real = file.with_name("real.config")
    real.write_text(file.read_text().replace("model_platform", "logging_config {} model_platform"))
    real.chmod(0o640)
    file.unlink()
    file.symlink_to(real)
    desk.rollout(2)
    assert file.is_symlink() and real.stat().st_mode & 0o777 == 0o640
    assert desk.site.config.HasField("logging_config")
    assert real.read_text().startswith("# Written by `python -m segkit rollout`")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda text: text.replace(
                "{ config", '{ config { name: "other" base_path: "/x" } config'
            ),
            "it lists 'other', which the server does not have",
        ),
        (lambda text: text.replace('"segkit"', '"renamed"'), "does not list the model 'segkit'"),
        (
            lambda text: text.replace("versions: 1", "versions: 1 versions: 2"),
            r"it lists version 2 of 'segkit', which is not available \(unknown to the server\)",
        ),
        (
            lambda text: text.replace("versions: 1", "versions: 2"),
            "it does not list version 1 of 'segkit', which is available",
        ),
        (
            lambda text: text.replace("value: 1", "value: 2"),
            "it gives 'stable' of 'segkit' to version 2, the server to version 1",
        ),
        (
            lambda text: text.replace('"stable"', '"nightly"'),
            "it gives 'nightly' of 'segkit' to version 1, the server to no version; it gives "
            "'stable' of 'segkit' to no version, the server to version 1",
        ),
        (lambda text: "model_config_list {", "Invalid protobuf file"),
    ],
)
def test_a_file_that_the_server_does_not_serve_by_is_refused(
    site: Site, change: Callable[[str], str], words: str
) -> None:
    site.config_file.write_text(change(site.config_file.read_text()))
    with pytest.raises(ConfigError, match=words):
        Desk(site).rollout(2)
    with pytest.raises(ConfigError, match=words):
        Desk(site).rollback(to=1)
    assert site.states == {1: "AVAILABLE"}


def test_a_model_that_the_file_forgets_is_not_unloaded(site: Site, tmp_path: Path) -> None:
    text = site.config_file.read_text()
    second = text.replace('"segkit"', '"second"').removeprefix("model_config_list { ")
    site.config_file.write_text(text.rstrip()[:-1] + second)
    site.restart()
    site.config_file.write_text(text)
    with pytest.raises(ConfigError, match="it does not list 'second', which the server has"):
        Desk(site).rollout(2)


def test_a_model_that_the_server_does_not_have_is_said_with_what_it_has(site: Site) -> None:
    with ModelControl(site.server.address) as control:
        place = Place(control, "other", base_path="/models/other")
        with pytest.raises(ModelNotFound, match="does not serve 'other'") as caught:
            rollout(place, 2, Checks(), undo=UNDO, waiting=Waiting())
    assert caught.value.expected == "segkit"


def test_a_server_without_a_file_is_told_the_base_path(desk: Desk) -> None:
    def place(control: ModelControl) -> Place:
        return Place(control, "segkit", base_path=str(desk.site.base_path))

    desk.place = place  # type: ignore[method-assign]
    with pytest.raises(ExportError, match=r"undone.*: version 1 \(stable\)"):
        desk.rollout(2, fail())
    assert desk.rollout(2).served.stable == 2
    with pytest.raises(ConfigError) as caught:
        desk.rollback()
    assert "without a --model_config_file" in caught.value.expected
    assert str(desk.rollback(to=1).served) == "version 1 (stable)"


def test_what_the_server_refuses_is_said_in_its_words(site: Site) -> None:
    with ModelControl(site.server.address) as control:
        place = Place(control, "segkit", base_path=str(site.base_path))
        with pytest.raises(ConfigError, match="not currently available for inference"):
            place.serve(place.look().label(stable=7))


def test_two_at_once_are_one_too_many(site: Site) -> None:
    with (
        one_at_a_time(site.config_file),
        pytest.raises(ConfigError, match=r"another roll-out.*\(process \d+\)"),
        one_at_a_time(site.config_file),
    ):
        pass
    with one_at_a_time(site.config_file):
        pass


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_done(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="cannot be written"),
        one_at_a_time(tmp_path / "nowhere" / "models.config"),
    ):
        pass


@pytest.mark.parametrize("text", ["", "[]", '{"models": {"segkit": [{"what": 1}]}}'])
def test_damaged_records_are_refused(desk: Desk, text: str) -> None:
    desk.site.config_file.with_name("models.config.rollouts.json").write_text(text)
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        desk.rollout(2)
    assert "--to" in caught.value.next_step


def test_records_of_other_models_stay(desk: Desk) -> None:
    path = desk.site.config_file.with_name("models.config.rollouts.json")
    other = {"action": "rollout", "version": 7, "finished": True, "mean_iou": [0.5, None]}
    path.write_text(json.dumps({"models": {"other": [other]}}))
    desk.rollout(2)
    record = json.loads(path.read_text())["models"]
    assert record["other"][0]["version"] == 7 and record["segkit"][0]["version"] == 2


def test_a_server_that_is_not_there_is_said(desk: Desk) -> None:
    desk.site.server.stop()
    with pytest.raises(SegkitError, match="cannot be reached"):
        desk.rollout(2)
