"""Models: which models are served from where, and which version a request means.

Follows tensorflow/serving's server_core.cc: how a new configuration replaces the one before, what
is refused, and how a model, a version or a label is looked up.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from segkit.engines import Code, StatusError
from segkit.serving.configs import TENSORFLOW
from segkit.serving.servable import Servable
from segkit.serving.versions import VersionManager, VersionStatus

__all__ = ["Models"]

Labels = dict[str, dict[str, int]]  # model -> label -> version
SAVED_MODEL_TYPE = 1  # ModelConfig.model_type, deprecated: TENSORFLOW


class Models:
    """The models of a server, by name.

    Args:
        make_manager: Makes the version manager of a model of a given name.
        labels_before_versions: Whether a new label may be given to a version that is not
            available (yet).
    """

    def __init__(
        self,
        make_manager: Callable[[str], VersionManager],
        *,
        labels_before_versions: bool = False,
    ) -> None:
        self._make_manager = make_manager
        self._labels_before_versions = labels_before_versions
        self._managers: dict[str, VersionManager] = {}  # replaced, never changed
        self._platforms: dict[str, str] = {}
        self._labels: Labels | None = None
        self._reloading = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The models of the configuration."""
        return sorted(self._platforms)

    def reload(self, config: Any, *, timeout_s: float | None = None) -> None:
        """Serves by a new configuration; returns when every new model has loaded.

        New versions of models that were there before load on their own time.

        Args:
            config: A tensorflow.serving.ModelConfigList.
            timeout_s: Seconds to wait for new models; None waits for ever.

        Raises:
            StatusError: The configuration is refused, in part or as a whole, or a new model did
                not become available.
        """
        with self._reloading:
            before, platforms = self._platforms, self._check(config)
            self._platforms = platforms  # as there: kept even if what follows fails
            self._labels = self._new_labels(config)
            managers = self._apply(config)
            new = [manager for manager in managers if manager.name not in before]
        self._wait(new, timeout_s)

    @contextlib.contextmanager
    def hold(self, spec: Any) -> Iterator[Servable]:
        """Finds the version that a ModelSpec means and holds it for a request.

        Raises:
            StatusError: There is no such one.
        """
        if not spec.name:
            raise _invalid("ModelSpec has no name specified.")
        number = spec.version.value if spec.HasField("version") else None
        if spec.HasField("version_label"):
            number = self._labeled(spec.name, spec.version_label)
        wanted = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
        not_found = StatusError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
        if spec.name not in self._managers:
            raise not_found
        with self._managers[spec.name].acquire(number) as servable:
            if servable is None:
                raise not_found
            yield servable

    def statuses(self, name: str) -> list[VersionStatus]:
        """Every version of a model that was ever seen, the newest first; none of an unknown one."""
        manager = self._managers.get(name)
        return manager.statuses() if manager else []

    def engines(self) -> dict[str, dict[int, str]]:
        """Model name -> available version, the newest first -> ENGINE:PRECISION that runs it."""
        return {name: self._managers[name].engines() for name in self.names}

    def stop(self) -> None:
        """Frees every version, after the requests that run on it."""
        for manager in self._managers.values():
            manager.stop()

    def _check(self, config: Any) -> dict[str, str]:
        """Refuses what is wrong with a configuration; model -> its platform."""
        platforms: dict[str, str] = {}
        for model in config.config:
            if model.name in platforms:
                raise _invalid(f"Illegal to list model {model.name} multiple times in config list")
            if not PurePosixPath(model.base_path).is_absolute():
                raise _invalid(
                    f"Expected model {model.name} to have an absolute path or URI; "
                    f"got base_path()={model.base_path}"
                )
            platforms[model.name] = _platform(model)
        for name, platform in platforms.items():
            before = self._platforms.get(name, platform)
            if before != platform:
                raise _invalid(
                    f"Illegal to change a model's platform. For model {name} platform was {before} "
                    f"and new platform requested is {platform}"
                )
        return platforms

    def _new_labels(self, config: Any) -> Labels:
        labels: Labels = {}
        for model in config.config:
            for label, number in sorted(model.version_labels.items()):
                manager = self._managers.get(model.name)
                available = manager is not None and manager.is_available(number)
                if not available and not self._may_label_early(model.name, label, number):
                    raise StatusError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {model.name}, "
                        "which is not currently available for inference",
                    )
                labels.setdefault(model.name, {})[label] = number
        return labels

    def _may_label_early(self, model: str, label: str, number: int) -> bool:
        """Whether the server allows it, and the label does not serve by another version now."""
        now = (self._labels or {}).get(model, {}).get(label, number)
        return self._labels_before_versions and now == number

    def _apply(self, config: Any) -> list[VersionManager]:
        for name, platform in self._platforms.items():
            if platform != TENSORFLOW:
                raise _invalid(f"Model {name} requests unsupported platform {platform}")
        managers = dict(self._managers)
        for model in config.config:
            if model.name not in managers:
                managers[model.name] = self._make_manager(model.name)
            managers[model.name].configure(Path(model.base_path), model.model_version_policy)
        for name in managers.keys() - self._platforms.keys():
            managers[name].configure(None)
        for name in managers.keys() - self._managers.keys():
            managers[name].start()
        self._managers = managers
        return [managers[name] for name in self._platforms]

    def _wait(self, new: Sequence[VersionManager], timeout_s: float | None) -> None:
        end = None if timeout_s is None else time.monotonic() + timeout_s
        failed = []
        for manager in new:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not manager.wait_until_settled(left):
                raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
            statuses = manager.statuses()
            if not any(manager.is_available(status.number) for status in statuses):
                failed += [
                    f"{{name: {manager.name} version: {status.number}}} due to error: "
                    f"{status.error}"
                    for status in statuses
                ] or [f"{{name: {manager.name}}}"]
        if failed:
            raise StatusError(
                Code.UNKNOWN,
                f"{len(failed)} model(s) did not become available: "
                f"{{{''.join(f'{{{each}}}, ' for each in failed)}}}",
            )

    def _labeled(self, model: str, label: str) -> int:
        if self._labels is None:
            raise StatusError(Code.UNAVAILABLE, f"Model labels does not init yet.{label}")
        number = self._labels.get(model, {}).get(label)
        if number is None:
            raise _invalid(f"Unrecognized servable version label: {label}")
        return number


def _platform(model: Any) -> str:
    if not model.model_type:
        platform = str(model.model_platform)
    elif model.model_platform:
        raise _invalid(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            f"ModelServerConfig::model_platform, model name is {model.name}"
        )
    elif model.model_type == SAVED_MODEL_TYPE:
        platform = TENSORFLOW
    else:
        raise _invalid(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
    if not platform:
        raise _invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {model.name}"
        )
    return platform


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
