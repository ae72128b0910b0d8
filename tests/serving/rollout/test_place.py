"""The configuration file, what the server says against it, and the records beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rollout_desk import UNDO, Checks, Desk, fail
from tiny_versions import Site

from segkit.errors import (
    ConfigError,
    ExportError,
    ModelNotFound,
    SegkitError,
)
from segkit.serving.rollout.control import ModelControl
from segkit.serving.rollout.history import one_at_a_time
from segkit.serving.rollout.place import Place
from segkit.serving.rollout.steps import rollout
from segkit.serving.rollout.waiting import Waiting


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
