"""Helpers: a server with a configuration file, and versions of the tiny model that differ."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from segkit.contract import Metadata
from segkit.engines import Code, StatusError
from segkit.export import publish
from segkit.labels import Label, LabelMap
from segkit.serving.configs import read_message
from segkit.serving.server import ModelServer
from segkit.serving.settings import ServerSettings

SPECIFIC_1 = (
    'model_version_policy { specific { versions: 1 } } version_labels { key: "stable" value: 1 }'
)


def write_versions(tiny_export: Path, model: Any, metadata: Metadata, folder: Path) -> Path:
    """Writes a folder of each: same, swapped, bus, small, broken.

    `swapped` has other answers than the tiny export, `bus` another class, `small` another size.
    """
    kernel, bias = model.layers[-1].get_weights()
    order = [2, 0, 1]
    swapped = tf.keras.models.clone_model(model)
    swapped.set_weights([*model.get_weights()[:-2], kernel[..., order], bias[order]])
    small = tf.keras.Sequential([tf.keras.Input((32, 48, 3)), *model.layers[1:]])
    bus = LabelMap((*metadata.labels.labels[:2], Label("bus", (0, 60, 100))))
    for name, network, record in (
        ("swapped", swapped, metadata),
        ("bus", model, replace(metadata, labels=bus)),
        ("small", small, replace(metadata, image_size=(32, 48))),
    ):
        shutil.move(publish(network, record, folder / f"{name}-base"), folder / name)
    for name in ("same", "broken"):
        shutil.copytree(tiny_export / "1", folder / name)
    data = folder / "broken" / "variables/variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-100])
    return folder


def write_stand_ins(folder: Path) -> Path:
    """Writes `same` and `broken`, which no engine has to run: see `served`."""
    for name in ("same", "broken"):
        (folder / name).mkdir(parents=True)
        (folder / name / "saved_model.pb").touch()
    (folder / "broken" / "is_broken").touch()
    return folder


@dataclass
class Site:
    """A base path that is served by a configuration file."""

    base_path: Path
    config_file: Path
    versions: Path
    stand_ins: bool
    server: ModelServer

    def put(self, name: str, number: int) -> None:
        """Publishes one of the folders of `versions` under a number."""
        incoming = self.base_path / f".incoming-{number}"
        shutil.copytree(self.versions / name, incoming)
        os.rename(incoming, self.base_path / str(number))

    def restart(self) -> None:
        """Starts the server again, by the file."""
        self.server.stop()
        self.server = _start(self.config_file, self.stand_ins)

    @property
    def config(self) -> Any:
        """The entry of the model in the file, as it is now."""
        (entry,) = read_message(self.config_file, ModelServerConfig).model_config_list.config
        return entry

    @property
    def states(self) -> dict[int, str]:
        return {x.number: x.state.name for x in self.server.models.statuses("segkit")}

    @property
    def labels(self) -> dict[str, int]:
        return dict((self.server.models._labels or {}).get("segkit", {}))


@contextmanager
def served(
    versions: Path, folder: Path, entry: str = SPECIFIC_1, *, stand_ins: bool = False
) -> Iterator[Site]:
    """Version 1 of the model segkit, served.

    Args:
        versions: What `write_versions` wrote, or `write_stand_ins`.
        folder: Where the base path and the configuration are written.
        entry: The rest of the model's entry in the file.
        stand_ins: Whether versions are only said to be loaded.
    """
    base_path, config_file = folder / "segkit", folder / "config" / "models.config"
    base_path.mkdir()
    config_file.parent.mkdir()
    shutil.copytree(versions / "same", base_path / "1")
    config_file.write_text(
        f'model_config_list {{ config {{ name: "segkit" base_path: "{base_path}" '
        f'model_platform: "tensorflow" {entry} }} }}\n'
    )
    site = Site(base_path, config_file, versions, stand_ins, _start(config_file, stand_ins))
    try:
        yield site
    finally:
        site.server.stop()


class _StandIn:
    engine_name = "stand-in:float32"

    def __init__(self, name: str, path: Path) -> None:
        if (path / "is_broken").exists():
            raise StatusError(Code.INVALID_ARGUMENT, "it is broken")
        self.name, self.version = name, int(path.name)
        self.signature_defs: dict[str, Any] = {}

    def close(self) -> None:
        """Holds nothing."""


def _start(config_file: Path, stand_ins: bool) -> ModelServer:
    settings = ServerSettings(
        poll_seconds=0.02, labels_before_versions=True, engine="tensorflow", max_threads=16
    )
    server = ModelServer(read_message(config_file, ModelServerConfig), settings)
    if stand_ins:
        server._load_version = _StandIn  # type: ignore[method-assign, assignment]
    server.start()
    return server
