from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segkit.commands import train
from segkit.config import EXIT_USER_ERROR, execute, to_yaml
from segkit.data.recipe import TRANSFORMS

LISTED = """
augmentation:
  - random_scale_crop: {min_scale: 0.75, max_class_share: 0.75}
  - random_flip
  - photometric_distortion:
      brightness: 20
      hue: 0.02
"""
ENTRIES = [
    {"random_scale_crop": {"min_scale": 0.75, "max_class_share": 0.75}},
    "random_flip",
    {"photometric_distortion": {"brightness": 20, "hue": 0.02}},
]


def parsed(*argv: Any) -> train.Options:
    seen: list[Any] = []
    command: Any = SimpleNamespace(__doc__="x", Options=train.Options, run=seen.append)
    assert execute(command, [str(arg) for arg in argv], prog="train.py") == 0
    return seen[0]


def written(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def test_the_augmentation_is_a_list_of_the_configuration(tmp_path: Path) -> None:
    options = parsed("--config_path", written(tmp_path, LISTED))
    assert options.augmentation == ENTRIES


def test_the_command_line_takes_the_same_entries_and_wins(tmp_path: Path) -> None:
    config = written(tmp_path, LISTED)
    given = ("default", "gaussian_blur: {max_sigma: 1.0}")
    options = parsed("--config_path", config, "--augmentation", *given, "--max_scale", 3)
    assert options.augmentation == ["default", {"gaussian_blur": {"max_sigma": 1.0}}]
    assert (options.min_scale, options.max_scale) == (None, 3.0)


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        (LISTED, ENTRIES),
        ("lr: 0.1", ["default"]),
        ("augmentation: default", ["default"]),
        ("augmentation: none", ["none"]),
        ("augmentation: false", [False]),
        ("augmentation: []", []),
    ],
)
def test_the_written_options_are_read_back(text: str, entries: list, tmp_path: Path) -> None:
    options = parsed("--config_path", written(tmp_path, text))
    assert options.augmentation == entries
    assert parsed("--config_path", written(tmp_path, to_yaml(options))) == options


def test_a_wrong_augmentation_is_told_before_the_data_set_is_opened(
    tmp_path: Path, capsys: Any
) -> None:
    argv = ["--augmentation", "random_flop", "--dataset_dir", str(tmp_path)]
    assert execute(train, argv, prog="train.py") == EXIT_USER_ERROR
    message = capsys.readouterr().err
    assert "'random_flop', which is no transform" in message
    assert "perhaps random_flip" in message
    assert not list(tmp_path.iterdir())


def test_an_entry_that_is_no_yaml_is_a_wrong_flag(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        parsed("--augmentation", "cutout: {holes")
    assert "'cutout: {holes' is not YAML" in capsys.readouterr().err


def test_the_guide_names_every_transform_and_parameter() -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "transforms.md").read_text()
    for name, kind in TRANSFORMS.items():
        assert f"`{name}`" in guide
        for parameter in set(kind.__dataclass_fields__) - {"image_size", "crop_size"}:
            assert f"`{parameter}`" in guide, f"{name}: {parameter}"
