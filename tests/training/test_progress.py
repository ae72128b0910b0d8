from __future__ import annotations

import io
import os
from typing import Any

import pytest
import tensorflow as tf

from segkit.labels import LabelMap
from segkit.training import progress
from segkit.training.fit import Plan
from segkit.training.progress import Progress
from segkit.training.state import Standing


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """What is seen of it in the end."""
        lines = [""]
        for part in self.getvalue().replace("\n", "\n\0").split("\0"):
            for text in part.rstrip("\n").split("\r"):
                lines[-1] = text + lines[-1][len(text) :]
            if part.endswith("\n"):
                lines.append("")
        return [line.rstrip() for line in lines]


@pytest.fixture
def plan() -> Plan:
    return Plan(
        network="x",
        image_size=(32, 32),
        aspp_rates=(),
        labels=LabelMap.from_names("ab"),
        epochs=12,
        steps_per_epoch=40,
        global_batch_size=8,
        precision="float32",
        strategy=tf.distribute.get_strategy(),
    )


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda: os.terminal_size((100, 20)))
    return now


def standing(done: int) -> Standing:
    return Standing(step=80 + done, losses=[0.25] * done, seconds=2.0 * done, waited=0.5 * done)


def test_a_terminal_shows_how_far_the_epoch_is_and_then_its_line(
    plan: Plan, clock: list[float]
) -> None:
    terminal = Terminal()
    shown = Progress("auto", stream=terminal)
    shown.step(plan, standing(1))
    clock[0] += 1
    shown.step(plan, standing(10))
    expected = "epoch 3/12  [=====               ] 10/40  loss 0.25  4 img/s  data 25%  1:00"
    assert terminal.screen() == [expected]
    shown.epoch("epoch 3/12  loss 0.2")
    shown.step(plan, standing(0))  # an epoch begins
    assert terminal.screen() == ["epoch 3/12  loss 0.2", ""]


@pytest.mark.parametrize(("step", "epoch"), [(40, "1/12"), (480, "12/12")])
def test_the_last_step_belongs_to_its_own_epoch(step: int, epoch: str, plan: Plan) -> None:
    terminal = Terminal()
    Progress("bar", stream=terminal).step(
        plan, Standing(step=step, losses=[0.25] * 40, seconds=80.0, waited=0.0)
    )
    assert terminal.screen()[0].startswith(f"epoch {epoch}  [{'=' * 20}] 40/40")


def test_closing_leaves_the_line_to_what_comes_next(plan: Plan) -> None:
    terminal = Terminal()
    shown = Progress("bar", stream=terminal)
    shown.step(plan, standing(10))
    shown.close()
    terminal.write("error")
    assert terminal.screen() == ["error"]


def test_closing_writes_nothing_where_nothing_was_drawn(plan: Plan) -> None:
    output = io.StringIO()
    shown = Progress("auto", stream=output)
    shown.step(plan, standing(10))
    shown.close()
    assert not output.getvalue()


def test_a_terminal_made_narrower_is_not_written_beyond_its_edge(
    plan: Plan, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    shown = Progress("bar", stream=terminal)
    shown.step(plan, standing(10))
    drawn = len(terminal.getvalue())
    monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda: os.terminal_size((30, 20)))
    clock[0] += 1
    shown.step(plan, standing(20))
    shown.close()
    parts = terminal.getvalue()[drawn:].split("\r")
    assert max(map(len, parts)) == 29


def test_it_is_drawn_ten_times_a_second_at_most(plan: Plan, clock: list[float]) -> None:
    terminal = Terminal()
    shown = Progress("bar", stream=terminal)
    for done in range(1, 40):
        shown.step(plan, standing(done))
        clock[0] += 0.03
    assert 9 <= terminal.getvalue().count("\r") <= 13


def test_a_narrow_terminal_cuts_the_line_off(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda: os.terminal_size((30, 20)))
    terminal = Terminal()
    Progress("bar", stream=terminal).step(plan, standing(10))
    assert len(terminal.screen()[0]) <= 29


@pytest.mark.parametrize(
    ("name", "stream", "expected"),
    [
        ("auto", io.StringIO, "begin\nepoch\nend\n"),
        ("lines", Terminal, "begin\nepoch\nend\n"),
        ("none", Terminal, "begin\nend\n"),
        ("none", io.StringIO, "begin\nend\n"),
    ],
)
def test_elsewhere_there_are_plain_lines(
    name: Any, stream: type[io.StringIO], expected: str, plan: Plan
) -> None:
    output = stream()
    shown = Progress(name, stream=output)
    shown.say("begin")
    shown.step(plan, standing(5))
    shown.epoch("epoch")
    shown.say("end")
    assert output.getvalue() == expected
