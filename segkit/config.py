"""From flags and YAML to a dataclass, from an exception to an exit status.

A command is a module with `Options` (a frozen, keyword-only dataclass; the string under a field is
its help text), `run(options)` and a docstring, whose first paragraph describes it. Such a module
imports what is heavy inside `run`, so that `--help` and wrong flags answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import math
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import Field, asdict, fields
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar, cast

from segkit.errors import ConfigError, SegkitError

__all__ = [
    "AS_YAML",
    "CONFIG_FILE",
    "EXIT_INTERRUPTED",
    "EXIT_USAGE",
    "EXIT_USER_ERROR",
    "POSITIONAL",
    "RUN_FOLDER",
    "Command",
    "execute",
    "read_options",
    "to_yaml",
]

EXIT_USER_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def _read_word(word: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(word)
    except yaml.YAMLError as err:
        raise argparse.ArgumentTypeError(f"'{word}' is not YAML: {err}") from err


# The options of a run, in its folder.
CONFIG_FILE = "config.yaml"

# Metadata of a list field of Options whose words are YAML: `--flag word 'word: {key: value}'` on
# the command line, a list of the same in a configuration.
AS_YAML = {"custom_args": {"type": _read_word}}

# Metadata of a Path field of Options that names the folder of a run to go on with: its config.yaml
# is read as that of --config_path is.
RUN_FOLDER = {"run_folder": True}

# Metadata of a field of Options that is given without a flag: `segkit check-data KIND:PATH`.
POSITIONAL = {"positional": True}

OptionsT = TypeVar("OptionsT")


class Command(Protocol):
    """A module of segkit.commands."""

    __doc__: str | None
    Options: type[Any]

    def run(self, options: Any) -> None:
        """Does what the command is for; raises a SegkitError where the user made a mistake."""


def execute(command: Command, argv: Sequence[str], *, prog: str) -> int:
    """Parses the flags, runs the command, and turns what it raises into an exit status.

    Args:
        command: A module of segkit.commands.
        argv: The flags, without the program's name.
        prog: The program's name, for usage messages.

    Returns:
        0, EXIT_USER_ERROR or EXIT_INTERRUPTED. Wrong flags exit with EXIT_USAGE at once.
    """
    debug = "--debug" in argv
    level = os.environ.get("SEGKIT_LOG", "DEBUG" if debug else "INFO").upper()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("segkit").setLevel(level)
    try:
        command.run(_parse(command, argv, prog))
    except SegkitError as err:
        if debug:
            traceback.print_exc()
        print(f"{prog}: error: {err}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def to_yaml(options: Any) -> str:
    """The options as YAML that `--config_path` reads back."""
    import yaml

    return yaml.safe_dump(_plain(asdict(options)), sort_keys=False)


def read_options(command: Command, path: Path) -> Any:
    """The options that `to_yaml` wrote.

    Raises:
        ConfigError: The file cannot be read, or holds something else.
    """
    return _parse(command, ["--config_path", str(path)], "segkit")


def _parse(command: Command, argv: Sequence[str], prog: str) -> Any:
    argv = list(argv)
    try:
        path = _config_path(argv, fields(command.Options))
    except argparse.ArgumentError as err:  # simple-parsing lets such a flag go without a value
        _parser(command, prog).error(str(err))
    if path is not None:
        bare, flags = _words_from_yaml(path, fields(command.Options))
        # A flag of one word, so that a list before it takes no word of the command line.
        argv = [*flags, "--config_path", str(path), *argv]
        # Where both give what has no flag, the configuration's is one word too many.
        if not bare or not _parser(command, prog).parse_known_args(bare + argv)[1]:
            argv = bare + argv
    return _parser(command, prog).parse_args(argv).options


def _parser(command: Command, prog: str) -> argparse.ArgumentParser:
    from simple_parsing import ArgumentParser

    class Parser(ArgumentParser):
        def error(self, message: str) -> NoReturn:
            super().error(message.replace("options.", ""))  # simple-parsing's own name for them
            raise AssertionError

    parser = Parser(
        prog=prog,
        description=(command.__doc__ or "").split("\n\n")[0],
        allow_abbrev=False,
        formatter_class=_HelpFormatter,
    )
    parser.add_arguments(command.Options, dest="options")
    parser.add_argument(
        "--config_path", metavar="FILE.yaml", help="read flags from here; flags given here win"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a flag as its user types it, instead of simple-parsing's internal names and types."""

    def start_section(self, heading: str | None) -> None:
        super().start_section("flags" if heading and heading.startswith("Options") else heading)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        metavar = str(action.metavar)
        if "bool" in metavar:
            return "[true|false]"
        if action.nargs == 2:  # every pair here is a size
            return "HEIGHT WIDTH"
        if action.choices:
            return super()._format_args(action, default_metavar)
        name = action.dest.rsplit(".", 1)[-1].upper()
        return f"{name} ..." if isinstance(action.default, list) else name

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if action.option_strings:
            return super()._format_action_invocation(action)
        return self._format_args(action, "")  # not simple-parsing's "options.name"

    def _get_help_string(self, action: argparse.Action) -> str | None:
        unset = action.default is None or action.default in ("", [])
        text = action.help if unset else super()._get_help_string(action)
        if not unset and isinstance(action.default, list):
            text = f"{action.help} (default: {' '.join(map(str, action.default))})"
        # The help is a format, in which "5 % of it" has to be "5 %% of it".
        return (text or "").replace("%", "%%").replace("%%(default)s", "%(default)s")


def _config_path(argv: Sequence[str], options: Sequence[Field[Any]]) -> Path | None:
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    peek.add_argument("--config_path", type=Path)
    folders = [option.name for option in options if option.metadata.get("run_folder")]
    for name in folders:
        peek.add_argument(f"--{name}", type=Path)
    given = vars(peek.parse_known_args(argv)[0])
    configs = [given[name] / CONFIG_FILE for name in folders if given[name] is not None]
    for config in configs:
        if not config.is_file():
            raise ConfigError(
                f"'{config.parent}' is not the folder of a run: it holds no {CONFIG_FILE}",
                expected="the run folder that is printed at the start",
            )
    if configs and given["config_path"] is not None:
        raise ConfigError(
            f"--config_path and --{folders[0]} are both given",
            expected="one of them: a run folder holds its own configuration",
        )
    return cast("Path | None", configs[0] if configs else given["config_path"])


def _words_from_yaml(path: Path, options: Sequence[Field[Any]]) -> tuple[list[str], list[str]]:
    """Turns a YAML mapping into words of a command line, so that argparse checks its values.

    Returns:
        What is given without a flag, and the flags.
    """
    import yaml

    known = {option.name for option in options}
    positional = {option.name for option in options if option.metadata.get("positional")}
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as err:
        raise ConfigError(
            f"the configuration '{path}' cannot be read: {err.strerror}",
            expected="a YAML file, as in configs/",
        ) from err
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise ConfigError(
            f"the configuration '{path}' is not YAML: {err}", expected="lines of 'flag: value'"
        ) from err
    if not isinstance(settings, dict):
        raise ConfigError(
            f"the configuration '{path}' holds a {type(settings).__name__}",
            expected="lines of 'flag: value'",
        )
    bare: list[str] = []
    flags: list[str] = []
    for key, value in settings.items():
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=3)
            raise ConfigError(
                f"the configuration '{path}' sets '{key}', which is no flag of this command",
                expected=f"perhaps {' or '.join(close)}" if close else ", ".join(sorted(known)),
            )
        if value is None:
            continue
        words = [_word(item) for item in (value if isinstance(value, list) else [value])]
        if key in positional:
            bare += words
        else:
            flags += [f"--{key}", *words]
    return bare, flags


def _word(value: Any) -> str:
    """A value of YAML as one word of a command line, which AS_YAML reads back."""
    import yaml

    if isinstance(value, dict):
        return yaml.safe_dump(
            value, default_flow_style=True, sort_keys=False, width=math.inf
        ).strip()
    return str(value)


def _plain(value: Any) -> Any:
    """Makes paths and tuples what YAML has: strings and lists."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
