"""`python -m segkit COMMAND`: the same commands as the scripts at the top level."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import cast

from segkit import __version__
from segkit.commands import COMMANDS
from segkit.config import EXIT_USAGE, Command, execute

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, script: str | None = None) -> int:
    """Runs a command.

    Args:
        argv: The command and its flags; those of the process if None.
        script: Name of the top-level script that asks, for usage messages.

    Returns:
        The exit status: 0, 1 user error, 2 wrong flags, 130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0 if argv else EXIT_USAGE
    if argv[0] == "--version":
        print(f"segkit {__version__}")
        return 0
    name = argv[0]
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        print(f"segkit: error: there is no command '{name}'", file=sys.stderr)
        print(f"  perhaps: {close[0]}" if close else _help(), file=sys.stderr)
        return EXIT_USAGE
    # TensorFlow's C++ start-up lines (CUDA plug-ins, no TensorRT) say nothing a user can act on;
    # what fails is raised as an exception all the same.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    module = importlib.import_module(f"segkit.commands.{name.replace('-', '_')}")
    return execute(cast(Command, module), argv[1:], prog=script or f"segkit {name}")


def _help() -> str:
    lines = ["usage: segkit COMMAND [FLAGS]", "", "commands:"]
    lines += [f"  {name:<20}{summary}" for name, summary in COMMANDS.items()]
    lines += ["", "'segkit COMMAND --help' explains the flags."]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
