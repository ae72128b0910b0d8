from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segkit.commands import train
from segkit.commands.resume import MAY_CHANGE, check_resumed
from segkit.config import EXIT_USER_ERROR, execute, to_yaml
from segkit.errors import ConfigError


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    options = train.Options(lr=0.5, network="mobilenetv3_deeplabv3plus", loss=["dice"])
    (tmp_path / "config.yaml").write_text(to_yaml(options))
    return tmp_path


def parsed(*argv: Any) -> train.Options:
    seen: list[Any] = []
    command: Any = SimpleNamespace(__doc__="x", Options=train.Options, run=seen.append)
    assert execute(command, [str(arg) for arg in argv], prog="train.py") == 0
    return seen[0]


def test_a_run_goes_on_with_its_own_flags_but_for_those_given(run_folder: Path) -> None:
    options = parsed("--resume", run_folder, "--epoch", 300)
    assert (options.lr, options.loss, options.epoch) == (0.5, ["dice"], 300)
    assert options.resume == run_folder
    check_resumed(train, options, run_folder)


def test_a_flag_that_would_make_it_another_training_is_refused(run_folder: Path) -> None:
    options = parsed(f"--resume={run_folder}", "--network", "ddrnet23_slim")
    with pytest.raises(ConfigError, match="--network is ddrnet23_slim: .* has mobile") as caught:
        check_resumed(train, options, run_folder)
    assert "--epoch" in caught.value.expected
    assert "last.h5" in caught.value.next_step


def test_the_flags_that_may_change_are_flags() -> None:
    assert set(train.Options.__dataclass_fields__) >= MAY_CHANGE


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--resume", "nowhere"], "'nowhere' is not the folder of a run"),
        (["--resume", "nowhere", "--config_path", "x.yaml"], "is not the folder of a run"),
    ],
)
def test_a_folder_that_is_none_is_named(argv: list[str], words: str, capsys: Any) -> None:
    assert execute(train, argv, prog="train.py") == EXIT_USER_ERROR
    assert words in capsys.readouterr().err


def test_a_run_and_a_configuration_cannot_both_be_given(run_folder: Path, capsys: Any) -> None:
    argv = ["--resume", str(run_folder), "--config_path", "x.yaml"]
    assert execute(train, argv, prog="train.py") == EXIT_USER_ERROR
    assert "--config_path and --resume are both given" in capsys.readouterr().err


def test_resume_without_a_folder_is_a_wrong_flag(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        execute(train, ["--resume"], prog="train.py")
    assert "--resume" in capsys.readouterr().err
