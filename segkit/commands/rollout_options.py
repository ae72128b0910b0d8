"""What `segkit rollout` and `segkit rollback` have in common: the server, and its configuration."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.commands.connection_options import ConnectionOptions
from segkit.commands.json_file import check_json, write_json
from segkit.commands.termination import terminable
from segkit.contract import DEFAULT_MODEL_NAME
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.serving.rollout.place import Place
    from segkit.serving.rollout.steps import Outcome
    from segkit.serving.rollout.waiting import Waiting

__all__ = ["PlaceOptions", "open_place", "outcome_record", "say", "write_report"]


@dataclass(frozen=True, kw_only=True)
class PlaceOptions(ConnectionOptions):
    """Flags of where a version is rolled out."""

    server: str = "127.0.0.1:8500"
    """host:port of the model server's gRPC port"""
    model_name: str = DEFAULT_MODEL_NAME
    """name that the model is served under"""
    model_config_file: Path | None = None
    """the file that the server was started with, such as serving/models.config; it is replaced once
    the server serves by the new one, and the records of roll-outs are kept beside it"""
    model_base_path: str | None = None
    """for a server of one model that has no such file: the folder of the versions, as the server
    sees it"""
    load_timeout: float = 900.0
    """seconds that a version may take to load"""
    json: Path | None = None
    """write what was done to this file as JSON too"""
    overwrite: bool = False
    """replace the file of --json if it exists"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.model_config_file is None) == (self.model_base_path is None):
            raise ConfigError(
                "neither --model_config_file nor --model_base_path is given"
                if self.model_config_file is None
                else "--model_config_file and --model_base_path are both given",
                expected="the file that the server was started with; or, of a server of one model "
                "without one, the folder of the versions as the server sees it",
                next_step="for the containers: --model_config_file serving/models.config",
            )
        if self.model_base_path is not None and not self.model_base_path.startswith("/"):
            raise ConfigError(
                f"--model_base_path is '{self.model_base_path}'",
                expected="an absolute path, as the server sees it",
            )
        if self.model_config_file is not None and not self.model_config_file.is_file():
            raise ConfigError(
                f"--model_config_file '{self.model_config_file}' is no file",
                expected="the file that the server was started with, on this machine",
            )
        if self.load_timeout <= 0:
            raise ConfigError(
                f"--load_timeout is {self.load_timeout:g}", expected="a number above 0"
            )
        check_json(self.json, overwrite=self.overwrite)

    def undo(self, version: int | None = None) -> str:
        """The command that undoes a roll-out.

        Args:
            version: What to go back to, where no file records it.
        """
        words = ["python", "-m", "segkit", "rollback", "--server", self.server]
        for flag in ("model_name", "model_config_file", "model_base_path", "ca", "cert", "key"):
            value = getattr(self, flag)
            if value is not None and value != getattr(PlaceOptions, flag, None):
                words += [f"--{flag}", str(value)]
        if self.model_config_file is None:
            words += ["--to", "VERSION" if version is None else str(version)]
        return shlex.join(words)

    @property
    def waiting(self) -> Waiting:
        """How long to be patient, and with whom to share it."""
        from segkit.serving.rollout.waiting import Waiting

        return Waiting(load=self.load_timeout, say=say)


@contextmanager
def open_place(options: PlaceOptions) -> Iterator[Place]:
    """The place of a roll-out, for nobody else meanwhile; SIGTERM ends it as Ctrl-C does.

    Raises:
        ConfigError: The file cannot be read, or somebody else is at it.
    """
    from segkit.client import RemoteSegmenter
    from segkit.serving.rollout.control import ModelControl
    from segkit.serving.rollout.history import one_at_a_time
    from segkit.serving.rollout.place import Place

    RemoteSegmenter(options.server).close()  # refuses what is no address
    file = options.model_config_file and options.model_config_file.resolve()
    with (
        terminable(),
        one_at_a_time(file),
        ModelControl(options.server, credentials=options.credentials) as control,
    ):
        yield Place(
            control,
            options.model_name,
            config_file=file,
            base_path=options.model_base_path or "",
            say=say,
        )


def say(line: str) -> None:
    """Prints it at once."""
    print(line, flush=True)


def write_report(options: PlaceOptions, record: dict[str, Any]) -> None:
    """Writes --json, if it is given."""
    if options.json is None:
        return
    record = {"server": options.server, "model": options.model_name, **record}
    write_json(options.json, record)
    say(f"written to {options.json}")


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """What was done, as what json.dumps takes."""
    return {
        "action": outcome.action,
        "version": outcome.version,
        "done": True,
        "changed": outcome.changed,
        "stable_before": outcome.before,
        "versions": sorted(outcome.served.versions),
        "labels": dict(sorted(outcome.served.labels.items())),
    }
