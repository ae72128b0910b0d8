"""What serves after each step, and what clients see of it."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rollout_desk import UNDO, Checks, Desk, available, fail
from tiny_versions import served, write_versions

from segkit.client import RemoteSegmenter
from segkit.contract import Metadata
from segkit.errors import (
    ConfigError,
    ExportError,
    ServerError,
)


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


def test_an_older_version_is_rolled_out_with_a_warning(desk: Desk) -> None:
    desk.rollout(2)
    outcome = desk.rollout(1)
    assert str(outcome.served) == "version 1 (stable), version 2"
    assert "note: version 2 is newer" in desk.text
