from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segkit.__main__ import main
from segkit.config import (
    AS_YAML,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    EXIT_USER_ERROR,
    POSITIONAL,
    execute,
    to_yaml,
)
from segkit.errors import ConfigError, SegkitError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of a command."""

    video: Path
    """the file"""
    image_size: tuple[int, int] = (480, 640)
    """height and width"""
    multi_gpu: bool = False
    """all of them"""
    mixed_precision: bool = True
    """half"""
    output: Path | None = None
    """where"""
    words: list[Any] = field(default_factory=lambda: ["one", "two"], metadata=AS_YAML)
    """what"""

    def __post_init__(self) -> None:
        if self.image_size[0] < 0:
            raise ConfigError("--image_size is negative", expected="1 or more")


def parsed(*argv: str) -> Options:
    seen: list[Any] = []
    assert (
        execute(SimpleNamespace(__doc__="x", Options=Options, run=seen.append), argv, prog="p") == 0
    )
    return seen[0]


def status(run: Any, *argv: str) -> int:
    return execute(SimpleNamespace(__doc__="x", Options=Options, run=run), argv, prog="p")


def failing(error: BaseException) -> Any:
    def run(_: Options) -> None:
        raise error

    return run


def test_an_image_size_is_two_numbers() -> None:
    assert parsed("--video", "a", "--image_size", "240", "320").image_size == (240, 320)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ((), (False, True)),
        (("--multi_gpu",), (True, True)),
        (("--multi_gpu", "true", "--mixed_precision", "False"), (True, False)),
        (("--nomixed_precision",), (False, False)),
    ],
)
def test_booleans_are_real(argv: tuple[str, ...], expected: tuple[bool, bool]) -> None:
    options = parsed("--video", "a", *argv)
    assert (options.multi_gpu, options.mixed_precision) == expected


@pytest.mark.parametrize(
    "argv", [(), ("--video", "a", "--image_size", "1"), ("--video", "a", "--vide", "b")]
)
def test_wrong_flags_exit_with_2(argv: tuple[str, ...], capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*argv)
    assert caught.value.code == EXIT_USAGE
    assert "usage: p" in capsys.readouterr().err


def test_yaml_gives_flags_and_the_command_line_wins(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("video: clip.mp4\nimage_size: [240, 320]\nmulti_gpu: true\noutput: null\n")
    options = parsed("--config_path", str(config), "--video", "other.mp4")
    assert options == Options(video=Path("other.mp4"), image_size=(240, 320), multi_gpu=True)


@dataclass(frozen=True, kw_only=True)
class BareOptions:
    """Flags of a command that takes something without a flag."""

    data: str = field(metadata=POSITIONAL)
    """what to check, 5 % of it"""
    words: list[str] = field(default_factory=list)
    """the 10 % that count"""


def bare(*argv: str) -> BareOptions:
    seen: list[Any] = []
    command = SimpleNamespace(__doc__="x", Options=BareOptions, run=seen.append)
    assert execute(command, argv, prog="p") == 0
    return seen[0]


def test_a_positional_is_given_without_a_flag(tmp_path: Path, capsys: Any) -> None:
    assert bare("cvat:x", "--words", "a", "b") == BareOptions(data="cvat:x", words=["a", "b"])
    with pytest.raises(SystemExit) as caught:
        bare("--words", "a")
    assert caught.value.code == EXIT_USAGE
    assert "required: data" in capsys.readouterr().err


def test_yaml_gives_a_positional_and_the_command_line_wins(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("words: [a, b]\ndata: cvat:x\n")
    config = ("--config_path", str(tmp_path / "c.yaml"))
    assert bare(*config) == BareOptions(data="cvat:x", words=["a", "b"])
    assert bare(*config, "voc:y") == BareOptions(data="voc:y", words=["a", "b"])
    assert bare("voc:y", *config, "--words", "c") == BareOptions(data="voc:y", words=["c"])
    options = bare("voc:z")
    (tmp_path / "c.yaml").write_text(to_yaml(options))
    assert bare(*config) == options


def test_help_may_speak_of_percent(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        bare("--help")
    text = capsys.readouterr().out
    assert "DATA " in text and "5 % of it" in text
    assert "the 10 % that count" in text
    assert "%%" not in text


def test_the_written_configuration_is_read_back(tmp_path: Path) -> None:
    options = Options(video=Path("a b.mp4"), image_size=(8, 16), mixed_precision=False)
    (tmp_path / "c.yaml").write_text(to_yaml(options))
    assert parsed("--config_path", str(tmp_path / "c.yaml")) == options


NESTED = ["a", {"b": {"c": [1, 2.5], "d": "x: y, {z}"}}, {"e": None}, True, 3]


def test_yaml_words_may_be_nested_and_are_read_back(tmp_path: Path) -> None:
    options = Options(video=Path("a"), words=NESTED)
    (tmp_path / "c.yaml").write_text(to_yaml(options))
    assert parsed("--config_path", str(tmp_path / "c.yaml")) == options


def test_yaml_words_are_words_of_the_command_line() -> None:
    assert parsed("--video", "a").words == ["one", "two"]
    assert parsed("--video", "a", "--words", "a", "b: {c: 1}").words == ["a", {"b": {"c": 1}}]


def test_the_default_of_a_list_is_shown_as_it_is_typed(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        parsed("--help")
    assert "what (default: one two)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image_sise: [1, 2]", "perhaps image_size"),
        ("nonsense: 1", "image_size, mixed_precision, multi_gpu, output, video, words"),
        ("a: [", "is not YAML"),
        ("- a", "holds a list"),
    ],
)
def test_a_wrong_configuration_says_what_was_expected(
    text: str, words: str, tmp_path: Path, capsys: Any
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(text)
    assert status(print, "--config_path", str(config)) == EXIT_USER_ERROR
    assert words in capsys.readouterr().err


def test_a_missing_configuration_is_named(capsys: Any) -> None:
    assert status(print, "--config_path", "gone.yaml") == EXIT_USER_ERROR
    assert "'gone.yaml' cannot be read" in capsys.readouterr().err


def test_an_error_has_three_parts_and_no_traceback(capsys: Any) -> None:
    error = SegkitError("it broke", expected="it whole", next_step="mend it")
    assert status(failing(error), "--video", "a") == EXIT_USER_ERROR
    assert capsys.readouterr().err == "p: error: it broke\n  expected: it whole\n  next: mend it\n"


def test_debug_shows_the_traceback(capsys: Any) -> None:
    assert status(failing(SegkitError("it broke")), "--video", "a", "--debug") == EXIT_USER_ERROR
    assert "Traceback" in capsys.readouterr().err


def test_a_validation_of_the_options_is_a_user_error(capsys: Any) -> None:
    assert status(print, "--video", "a", "--image_size", "-8", "8") == EXIT_USER_ERROR
    assert "--image_size is negative" in capsys.readouterr().err


def test_ctrl_c_exits_with_130() -> None:
    assert status(failing(KeyboardInterrupt()), "--video", "a") == EXIT_INTERRUPTED


def test_a_bug_is_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError):
        status(failing(ZeroDivisionError()), "--video", "a")


def test_a_misspelt_command_is_answered_with_the_close_one(capsys: Any) -> None:
    assert main(["trian"]) == EXIT_USAGE
    assert "perhaps: train" in capsys.readouterr().err


def test_help_lists_the_commands(capsys: Any) -> None:
    assert main(["--help"]) == 0
    assert "predict-video" in capsys.readouterr().out
