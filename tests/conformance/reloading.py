"""What the tests of a version's life do to the server: configure it, ask it, watch it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conformance_export import BARE, expected_class_ids
from conformance_server import Target, call, model_states
from grpc_requests import IMAGE, PREDICT, RELOAD, predict_request
from tensorflow_serving.apis import model_management_pb2, predict_pb2
from tensorflow_serving.config import model_server_config_pb2

__all__ = [
    "AVAILABLE", "END", "LOADING", "START", "UNLOADING", "Server", "Watch", "model_config",
    "reload_request", "wait_until",
]  # fmt: skip

START, LOADING, AVAILABLE, UNLOADING, END = 10, 20, 30, 40, 50
PATIENCE_SECONDS = 60

Config = dict[str, Any]  # the fields of a ModelConfig


def model_config(
    name: str,
    base_path: Path | str,
    versions: Sequence[int] = (),
    labels: Mapping[str, int] | None = None,
    **fields: Any,
) -> Config:
    """The fields of a ModelConfig; without versions the latest one is served."""
    config = {"name": name, "base_path": str(base_path), "model_platform": "tensorflow", **fields}
    if versions:
        config["model_version_policy"] = {"specific": {"versions": versions}}
    return config | {"version_labels": labels or {}}


def reload_request(
    *models: Config, metrics: Sequence[str] = ()
) -> model_management_pb2.ReloadConfigRequest:
    request = model_management_pb2.ReloadConfigRequest(metric_names=metrics)
    request.config.model_config_list.SetInParent()
    for fields in models:
        request.config.model_config_list.config.append(
            model_server_config_pb2.ModelConfig(**fields)
        )
    return request


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.005)


class Server:
    """The server under test, with what these tests do to it."""

    def __init__(self, channel: grpc.Channel, target: Target) -> None:
        self.channel = channel
        self.model = target.model_name
        self.root = target.root

    def config(
        self, *versions: int, labels: Mapping[str, int] | None = None, **fields: Any
    ) -> Config:
        return model_config(self.model, self.root / self.model, versions, labels, **fields)

    @property
    def bare(self) -> Config:
        return model_config(BARE, self.root / BARE)

    def reload(self, *models: Config, metrics: Sequence[str] = ()) -> Any:
        raw = call(self.channel, RELOAD, reload_request(*models, metrics=metrics))
        return model_management_pb2.ReloadConfigResponse.FromString(raw)

    def refused(self, request: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            call(self.channel, RELOAD, request)
        return caught.value.code(), caught.value.details()

    def states(self, name: str = "") -> dict[int, int]:
        return dict(model_states(self.channel, name or self.model))

    def wait(self, states: Mapping[int, int], name: str = "") -> None:
        wait_until(
            lambda: self.states(name).items() >= states.items(),
            f"{states} of {name or self.model}",
        )

    def answer(self, name: str = "", **spec: Any) -> int:
        """The version that a request is answered by, held to the values that it has to give."""
        raw = call(self.channel, PREDICT, predict_request(name or self.model, **spec))
        response = predict_pb2.PredictResponse.FromString(raw)
        version = response.model_spec.version.value
        class_ids = tf.make_ndarray(response.outputs["class_ids"])
        np.testing.assert_array_equal(class_ids, expected_class_ids(version, IMAGE))
        return int(version)


class Watch:
    """Asks again and again in a thread until the block ends; what failed there fails here."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self.answers: list[Any] = []
        self._ask = ask
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                answer = self._ask()
                if not self.answers or self.answers[-1] != answer:
                    self.answers.append(answer)
        except BaseException as err:
            self._error = err

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)
        if self._error is not None:
            raise self._error
