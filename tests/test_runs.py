from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from segkit.errors import ConfigError
from segkit.runs import Run, library_versions


@dataclass(frozen=True, kw_only=True)
class Options:
    lr: float = 0.1
    data: Path = Path("x")


def test_every_run_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    first, second = (Run(tmp_path / "1120", "run", Options()) for _ in range(2))
    assert (first.path.name, second.path.name) == ("run_1", "run_2")


def test_the_folder_holds_what_it_takes_to_repeat_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path, "run", Options())
    assert (run.path / "config.yaml").read_text() == "lr: 0.1\ndata: x\n"
    assert "pytest" in (run.path / "command.txt").read_text()
    environment = (run.path / "env.txt").read_text()
    assert "tensorflow==2.15.1" in environment
    assert "git " in environment


def test_results_are_one_header_and_a_line_an_epoch(tmp_path: Path) -> None:
    run = Run(tmp_path, "run", Options())
    for epoch in (1, 2):
        run.add_result({"epoch": epoch, "loss": 0.5})
    assert run.results.read_text().splitlines() == ["epoch,loss", "1,0.5", "2,0.5"]


def test_logs_of_many_runs_can_lie_together(tmp_path: Path) -> None:
    run = Run(tmp_path / "1120", "run", Options(), tensorboard=tmp_path / "tb")
    assert run.tensorboard == tmp_path / "tb" / "1120" / "run_1"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--checkpoint_dir"):
        Run(tmp_path / "file", "run", Options())


def test_versions_name_segkit_itself() -> None:
    assert "segkit" in library_versions()
