"""What train.py checks before it starts: the built data set, once for each state of it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tiny_sets import LABEL_MAP, ids, jpeg, png
from tiny_tfds import build

from segkit.__main__ import main
from segkit.commands import check_data
from segkit.commands.check_data import check_before_training
from segkit.data.full_semantic import FullSemantic, open_dataset
from segkit.errors import DataError

Files = Mapping[str, bytes | str | None]


@pytest.fixture
def built(tmp_path: Path) -> Callable[[Files], FullSemantic]:
    """A data set of five images as `tfds build` makes it, with `changes` to its archive."""

    def make(changes: Files) -> FullSemantic:
        files: dict[str, bytes | str | None] = {"labelmap.txt": LABEL_MAP}
        files |= {"train.txt": "a\nb\nc\nd\n", "val.txt": "e\n"}
        for seed, stem in enumerate("abcde"):
            files[f"rgb/{stem}.jpg"] = jpeg(seed)
            files[f"gt/{stem}.png"] = png(ids(seed))
        manual = tmp_path / "manual"
        manual.mkdir()
        with zipfile.ZipFile(manual / "full_semantic.zip", "w") as archive:
            for name, content in (files | changes).items():
                if content is not None:
                    archive.writestr(name, content)
        build(manual, tmp_path)
        return open_dataset(tmp_path)

    return make


def test_a_built_data_set_is_checked_once(
    built: Callable[[Files], FullSemantic],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SEGKIT_CACHE_DIR", str(tmp_path / "cache"))
    dataset = built({})
    check_before_training(dataset)
    assert "data checked: 5 images, no errors, no warnings" in capsys.readouterr().out
    check_before_training(dataset)
    assert capsys.readouterr().out == ""
    (records,) = dataset.files("val")
    os.utime(records, ns=(0, 0))
    check_before_training(dataset)
    assert "data checked: 5 images" in capsys.readouterr().out
    monkeypatch.setattr(check_data, "__version__", "99.0")  # which may look for more
    check_before_training(dataset)
    assert "data checked: 5 images" in capsys.readouterr().out


def test_warnings_alone_are_shown_and_do_not_stop_a_training(
    built: Callable[[Files], FullSemantic], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = built({"rgb/b.jpg": jpeg(0)})
    capsys.readouterr()
    check_before_training(dataset)
    assert capsys.readouterr().out.startswith(
        "warning: one picture twice (1)\n  'a' and 'b' are the same picture\n  next: "
    )


def test_where_nothing_can_be_remembered_it_is_checked_every_time(
    built: Callable[[Files], FullSemantic],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGKIT_CACHE_DIR", str(tmp_path / "file"))
    dataset = built({})
    for _ in range(2):
        check_before_training(dataset)
        assert "data checked: 5 images" in capsys.readouterr().out


def test_a_built_data_set_with_errors_is_refused_every_time(
    built: Callable[[Files], FullSemantic], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = built({"rgb/e.jpg": jpeg(1)})
    for _ in range(2):
        with pytest.raises(DataError, match=r"has 1 error,[^$]*--check_data false"):
            check_before_training(dataset)
        assert "'b' in train and 'e' in val are the same picture" in capsys.readouterr().out


def test_training_checks_unless_told_not_to(
    built: Callable[[Files], FullSemantic], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    built({"rgb/e.jpg": jpeg(1)})
    flags = ["train", "--dataset_dir", str(tmp_path), "--checkpoint_dir", str(tmp_path / "ck")]
    assert main(flags) == 1
    assert "has 1 error," in capsys.readouterr().err
    assert not (tmp_path / "ck").exists()
    assert main([*flags, "--check_data", "false", "--image_size", "8", "8"]) == 1
    assert "the image size 8 8 is too small" in capsys.readouterr().err
