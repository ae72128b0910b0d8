from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from segkit.errors import ConfigError
from segkit.runs import Run, library_versions, replacing


@dataclass(frozen=True, kw_only=True)
class Options:
    lr: float = 0.1
    data: Path = Path("x")


def test_every_run_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    first, second = (Run.create(tmp_path / "1120", "run", Options()) for _ in range(2))
    assert (first.path.name, second.path.name) == ("run_1", "run_2")


def test_the_folder_holds_what_it_takes_to_repeat_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "--data", "two words"])
    run = Run.create(tmp_path, "run", Options())
    assert (run.path / "config.yaml").read_text() == "lr: 0.1\ndata: x\n"
    assert (run.path / "command.txt").read_text() == "train.py --data 'two words'\n"
    environment = (run.path / "env.txt").read_text()
    assert "tensorflow==2.15.1" in environment
    assert "git " in environment


def test_results_are_one_header_and_a_line_an_epoch(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "run", Options())
    rows = [{"epoch": epoch, "loss": 0.5} for epoch in (1, 2)]
    run.write_results(rows)
    assert run.results.read_text().splitlines() == ["epoch,loss", "1,0.5", "2,0.5"]
    assert run.read_results() == [{"epoch": "1", "loss": "0.5"}, {"epoch": "2", "loss": "0.5"}]


def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "run", Options())
    assert run.read_results() == []
    run.results.write_text("epoch,loss\n1,0.5\n2")
    assert run.read_results() == [{"epoch": "1", "loss": "0.5"}]


def test_what_cannot_be_written_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(OSError, match="full"), replacing(tmp_path / "file") as incoming:
        incoming.write_text("half")
        raise OSError("full")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_run_that_goes_on_notes_its_options_and_its_command(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "run", Options())
    Run(run.path).note(Options(lr=0.2))
    assert run.config.read_text() == "lr: 0.2\ndata: x\n"
    assert len((run.path / "command.txt").read_text().splitlines()) == 2


def test_logs_of_many_runs_can_lie_together(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "1120", "run", Options(), tensorboard=tmp_path / "tb")
    assert run.tensorboard == tmp_path / "tb" / "1120" / "run_1"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--checkpoint_dir"):
        Run.create(tmp_path / "file", "run", Options())


def test_versions_name_segkit_itself() -> None:
    assert "segkit" in library_versions()
