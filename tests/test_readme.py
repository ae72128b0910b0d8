"""The commands of README.md: each is parsed by the program that it names, so none can rot."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from segkit import __main__ as program
from segkit.commands import COMMANDS

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CODE = [line.strip() for line in re.findall(r"^    (\S.*)$", README, re.MULTILINE)]
COMMAND_LINES = [line for line in CODE if re.match(r"python (-m segkit|\w+\.py)", line)]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_every_command_is_taken_by_its_program(line: str, monkeypatch: Any) -> None:
    words = shlex.split(line)
    parsed: list[Any] = []

    def execute(command: ModuleType, argv: list[str], *, prog: str) -> int:
        from types import SimpleNamespace

        from segkit.config import execute as real

        return real(
            SimpleNamespace(__doc__="", Options=command.Options, run=parsed.append),
            argv,
            prog=prog,
        )

    monkeypatch.setattr(program, "execute", execute)
    if words[1] == "-m":
        assert program.main(words[3:]) == 0
    else:
        script = (REPOSITORY / words[1]).read_text(encoding="utf-8")
        command = re.search(r'main\(\["([\w-]+)"', script)
        if command is None:
            pytest.skip("a sample without flags")
        assert program.main([command.group(1), *words[2:]]) == 0
    assert len(parsed) == 1


def test_the_commands_that_it_needs_are_there() -> None:
    text = " ".join(COMMAND_LINES)
    for name in ("prepare", "serve", "train.py", "eval.py", "predict_video.py"):
        assert name in text
    assert set(COMMANDS) >= {"prepare", "train", "eval", "export", "serve", "predict-video"}


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)h][^)]*)\)", README))
def test_every_link_leads_somewhere(target: str) -> None:
    assert (REPOSITORY / target).exists(), target


def test_compose_has_the_service_that_it_names() -> None:
    assert "docker compose up serving" in CODE
    assert re.search(r"^  serving:", (REPOSITORY / "docker-compose.yml").read_text(), re.MULTILINE)
