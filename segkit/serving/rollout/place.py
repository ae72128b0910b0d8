"""Place: one model on a server, what is served of it, and the file that says so to a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from segkit.errors import ConfigError, ModelNotFound
from segkit.serving.configs import read_message, single_model
from segkit.serving.folder import specified
from segkit.serving.rollout.control import ModelControl
from segkit.serving.rollout.history import replace_text
from segkit.serving.rollout.waiting import describe
from segkit.serving.versions import State, VersionStatus

__all__ = ["CANARY", "STABLE", "Place", "Serving"]

STABLE, CANARY = "stable", "canary"
HEADER = """\
# Written by `python -m segkit rollout`, which replaces it. docs/rollout.md
# tensorflow.serving.ModelServerConfig (--model_config_file): what is served.
"""


@dataclass(frozen=True)
class Serving:
    """What is served of a model: the versions that are available, and the labels."""

    versions: frozenset[int]
    labels: Mapping[str, int] = field(default_factory=dict)

    @property
    def stable(self) -> int | None:
        """The version of the label `stable`."""
        return self.labels.get(STABLE)

    @property
    def canary(self) -> int | None:
        """The version of the label `canary`."""
        return self.labels.get(CANARY)

    def add(self, version: int) -> Serving:
        """With one version more."""
        return Serving(self.versions | {version}, self.labels)

    def remove(self, versions: Set[int]) -> Serving:
        """Without some versions; those that have a label stay."""
        return Serving(self.versions - (versions - set(self.labels.values())), self.labels)

    def label(self, **labels: int | None) -> Serving:
        """With labels moved, or removed by None."""
        merged = {**self.labels, **labels}
        return Serving(
            self.versions, {key: value for key, value in merged.items() if value is not None}
        )

    def __str__(self) -> str:
        texts = []
        for version in sorted(self.versions):
            labels = ", ".join(
                key for key, value in sorted(self.labels.items()) if value == version
            )
            texts.append(f"version {version}" + (f" ({labels})" if labels else ""))
        return ", ".join(texts) or "no version"


class Place:
    """Where a version is rolled out.

    TensorFlow Serving cannot be asked for its configuration, and a new one replaces all of it. So
    the configuration is that of the file, as long as nothing that can be asked contradicts it.

    Args:
        control: The server.
        model: The model's name.
        config_file: The server's --model_config_file; None: see `base_path`.
        base_path: Of a server of this one model that has no such file: the folder of the versions,
            as the server sees it.
        say: Told what is written.

    Raises:
        ConfigError: The file cannot be read, or does not list the model.
    """

    def __init__(
        self,
        control: ModelControl,
        model: str,
        *,
        config_file: Path | None = None,
        base_path: str = "",
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.control, self.model, self._say = control, model, say
        # A link stays one; what it leads to is replaced.
        self.config_file = None if config_file is None else config_file.resolve()
        if self.config_file is None:
            self._config = single_model(model, Path(base_path))
        else:
            self._config = read_message(self.config_file, ModelServerConfig)
        self._before: Any = None if self.config_file is None else self._config
        if model not in self._entries:
            raise ConfigError(
                f"'{config_file}' does not list the model '{model}'",
                expected=f"one of {', '.join(self._entries) or 'none: the file lists no model'}",
                next_step="correct --model_name or --model_config_file",
            )

    @property
    def history_file(self) -> Path | None:
        """Where the records of roll-outs are."""
        return self.config_file and self.config_file.with_name(
            f"{self.config_file.name}.rollouts.json"
        )

    @property
    def base_path(self) -> Path:
        """The folder of the versions, as the server sees it."""
        return Path(self._entries[self.model].base_path)

    def look(self) -> Serving:
        """What is served now, by the server's own words.

        Raises:
            ModelNotFound: It does not have the model.
            ServerError: It cannot be asked.
        """
        statuses = self.control.statuses(self.model)
        if not statuses:
            others = self.control.models() or []
            raise ModelNotFound(
                f"the model server at {self.control.server} does not serve '{self.model}'",
                expected=", ".join(others) or "the name of a model that is served there",
                next_step="correct --model_name or --server",
            )
        return self._serving(self.model, statuses)

    def check_file(self, *, interrupted: bool) -> None:
        """Holds the file to what the server says.

        Args:
            interrupted: A roll-out was, so that the model itself may differ from the file.

        Raises:
            ConfigError: They disagree: a reload by the file would change more than is asked for.
        """
        if self.config_file is None:
            return
        differences = []
        for name, entry in self._entries.items():
            statuses = self.control.statuses(name)
            if not statuses:
                differences.append(f"it lists '{name}', which the server does not have")
            elif name != self.model or not interrupted:
                differences += _differences(entry, statuses, self._serving(name, statuses).labels)
        served = self.control.models()
        if served is not None:
            missing = sorted(set(served) - set(self._entries))
            differences += [f"it does not list '{name}', which the server has" for name in missing]
        if differences:
            raise ConfigError(
                f"'{self.config_file}' is not what the server at {self.control.server} serves by: "
                + "; ".join(differences),
                expected="the file that it was started with, since a reload replaces all of its "
                "configuration",
                next_step="correct the file, or restart the server with it",
            )

    def serve(self, wanted: Serving) -> None:
        """Has the server serve so; versions load and go on their own time.

        Raises:
            ConfigError: It refuses.
            ServerError: It cannot be asked.
        """
        if self._before is None:  # nobody knows what a server without a file was told before
            self._before = self._with(self.look())
        self.control.reload(self._with(wanted), model=self.model)

    def put_back(self) -> None:
        """Has the server serve as the file says, or as it did when this began."""
        if self._before is not None:
            self.control.reload(self._before, model=self.model)

    def names(self, version: int) -> bool:
        """Whether what is put back may load a version."""
        if self._before is None:  # nothing is
            return True
        entries = self._before.model_config_list.config
        (policy,) = (each.model_version_policy for each in entries if each.name == self.model)
        return version in specified(policy) or not specified(policy)

    def write(self, served: Serving) -> None:
        """Has the file say what is served.

        Raises:
            ConfigError: It cannot be written.
        """
        config = self._with(served)
        if self.config_file is not None and config != self._config:
            replace_text(self.config_file, HEADER + text_format.MessageToString(config))
            self._say(f"wrote {self.config_file}")
        self._config = self._before = config

    @property
    def _entries(self) -> dict[str, Any]:
        return {entry.name: entry for entry in self._config.model_config_list.config}

    def _serving(self, model: str, statuses: Mapping[int, VersionStatus]) -> Serving:
        available = {x.number for x in statuses.values() if x.state is State.AVAILABLE}
        known = {STABLE, CANARY, *self._entries[model].version_labels}
        found = {label: self.control.labeled(model, label) for label in sorted(known)}
        return Serving(
            frozenset(available), {key: value for key, value in found.items() if value is not None}
        )

    def _with(self, wanted: Serving) -> Any:
        """The whole configuration, with the model served as wanted."""
        config = ModelServerConfig()
        config.CopyFrom(self._config)
        for entry in config.model_config_list.config:
            if entry.name == self.model:
                entry.ClearField("version_labels")
                entry.version_labels.update(wanted.labels)
                entry.model_version_policy.Clear()
                entry.model_version_policy.specific.versions.extend(sorted(wanted.versions))
        return config


def _differences(
    entry: Any, statuses: Mapping[int, VersionStatus], labels: Mapping[str, int]
) -> list[str]:
    """What the server says of a model other than the file does, in words."""
    found = []
    wanted = specified(entry.model_version_policy)
    for number in sorted(wanted | set(statuses)) if wanted else ():
        status = statuses.get(number)
        available = status is not None and status.state is State.AVAILABLE
        failed = status is not None and status.error is not None
        if number in wanted and not available and not failed:
            found.append(
                f"it lists version {number} of '{entry.name}', which is not available "
                f"({describe(status)})"
            )
        elif number not in wanted and available:
            found.append(f"it does not list version {number} of '{entry.name}', which is available")
    for label in sorted({*labels, *entry.version_labels}):
        there, here = labels.get(label), entry.version_labels.get(label)
        if there != here:
            found.append(
                f"it gives '{label}' of '{entry.name}' to {_version(here)}, the server to "
                f"{_version(there)}"
            )
    return found


def _version(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"
