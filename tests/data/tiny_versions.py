"""Helpers: versions of the tiny model that differ, and a server with a configuration file."""

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
from segkit.export import publish
from segkit.labels import Label, LabelMap
from segkit.serving.configs import read_message
from segkit.serving.server import ModelServer
from segkit.serving.settings import ServerSettings

SPECIFIC_1 = (
    'model_version_policy { specific { versions: 1 } } version_labels { key: "stable" value: 1 }'
)


def write_versions(tiny_export: Path, model: Any, metadata: Metadata, folder: Path) -> Path:
    """Writes folders: `same` as the tiny export, `swapped` answers, `broken`, `bus`, `small`."""
    labels = metadata.labels
    kernel, bias = model.layers[-1].get_weights()
    order = [2, 0, 1]
    swapped = tf.keras.models.clone_model(model)
    swapped.set_weights([*model.get_weights()[:-2], kernel[..., order], bias[order]])
    small = tf.keras.Sequential([tf.keras.Input((32, 48, 3)), *model.layers[1:]])
    bus = LabelMap((*labels.labels[:2], Label("bus", (0, 60, 100))))
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


@dataclass
class Site:
    """A base path that is served by a configuration file."""

    base_path: Path
    config_file: Path
    versions: Path
    server: ModelServer

    def put(self, name: str, number: int) -> None:
        """Publishes one of the folders of `write_versions` under a number."""
        incoming = self.base_path / f".incoming-{number}"
        shutil.copytree(self.versions / name, incoming)
        os.rename(incoming, self.base_path / str(number))

    @property
    def config(self) -> Any:
        """The entry of the model in the file, as it is now."""
        (entry,) = read_message(self.config_file, ModelServerConfig).model_config_list.config
        return entry

    def states(self) -> dict[int, str]:
        return {x.number: x.state.name for x in self.server.models.statuses("segkit")}

    @property
    def available(self) -> list[int]:
        return sorted(self.server.versions["segkit"])

    def labels(self) -> dict[str, int]:
        return dict((self.server.models._labels or {}).get("segkit", {}))

    def restart(self) -> None:
        """Starts it again, by the file."""
        self.server.stop()
        self.server = start(self.config_file)


def start(config_file: Path) -> ModelServer:
    settings = ServerSettings(
        poll_seconds=0.02, labels_before_versions=True, engine="tensorflow", max_threads=16
    )
    server = ModelServer(read_message(config_file, ModelServerConfig), settings)
    server.start()
    return server


@contextmanager
def served(versions: Path, folder: Path, more: str = SPECIFIC_1) -> Iterator[Site]:
    """Version 1 of the model segkit, served; `more` is the rest of its entry in the file."""
    base_path, config_file = folder / "segkit", folder / "config" / "models.config"
    base_path.mkdir()
    config_file.parent.mkdir()
    shutil.copytree(versions / "same", base_path / "1")
    config_file.write_text(
        f'model_config_list {{ config {{ name: "segkit" base_path: "{base_path}" '
        f'model_platform: "tensorflow" {more} }} }}\n'
    )
    site = Site(base_path, config_file, versions, start(config_file))
    try:
        yield site
    finally:
        site.server.stop()
