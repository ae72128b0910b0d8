from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from patience import wait_for
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from segkit import contract
from segkit.serving.servable import Loader, Servable
from segkit.serving.server import ModelServer
from segkit.serving.versions import State, VersionManager
from segkit.serving.warmup import replay_warmup

IMAGE = np.random.default_rng(4).integers(0, 256, (1, 64, 96, 3), np.uint8)


@pytest.fixture
def base_path(tiny_export: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_export, tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def server(base_path: Path) -> Iterator[ModelServer]:
    with ModelServer.of("segkit", base_path, poll_seconds=0.05) as server:
        yield server


def load(name: str, path: Path) -> Servable:
    servable = Loader().load(name, path)
    replay_warmup(servable, path)
    return servable


@pytest.fixture
def manager(base_path: Path) -> Iterator[VersionManager]:
    """Not started: the test polls."""
    manager = VersionManager("segkit", load)
    manager.configure(base_path)
    yield manager
    manager.stop()


class Client:
    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self._predict = prediction_service_pb2_grpc.PredictionServiceStub(self.channel).Predict
        self._status = model_service_pb2_grpc.ModelServiceStub(self.channel).GetModelStatus

    def predict(self) -> Any:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "segkit"
        request.inputs["image"].CopyFrom(tf.make_tensor_proto(IMAGE))
        return self._predict(request, timeout=30)

    def statuses(self) -> dict[int, Any]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "segkit"
        entries = self._status(request, timeout=30).model_version_status
        return {entry.version: entry for entry in entries}

    def states(self) -> dict[int, int]:
        return {number: entry.state for number, entry in self.statuses().items()}


@pytest.fixture
def client(server: ModelServer) -> Iterator[Client]:
    client = Client(server.address)
    with client.channel:
        yield client


def publish_copy(
    base_path: Path, number: int, change: Callable[[Path], object] | None = None
) -> None:
    """Publishes a copy of version 1 as segkit does: written beside its place, then renamed."""
    incoming = base_path / f".incoming-{number}"
    shutil.copytree(base_path / "1", incoming)
    if change:
        change(incoming)
    os.rename(incoming, base_path / str(number))


def damage(version: Path) -> None:
    data = version / "variables/variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-100])


def states(manager: VersionManager) -> dict[int, State]:
    return {status.number: status.state for status in manager.statuses()}


def test_a_new_version_takes_over_without_a_failed_request(
    client: Client, server: ModelServer, base_path: Path
) -> None:
    failures: list[Exception] = []
    answered: list[int] = []
    done = threading.Event()

    def keep_predicting() -> None:
        other = Client(server.address)
        with other.channel:
            while not done.is_set():
                try:
                    answered.append(other.predict().model_spec.version.value)
                except grpc.RpcError as err:
                    failures.append(err)

    threads = [threading.Thread(target=keep_predicting) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answered) > 5)
    publish_copy(base_path, 2)
    wait_for(lambda: client.states() == {2: 30, 1: 50})
    seen = len(answered)
    wait_for(lambda: len(answered) > seen + 5)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {answered[0], answered[-1]} == {1, 2}
    assert list(client.statuses()) == [2, 1]  # the newest first


def test_a_broken_version_takes_nothing_down_and_says_why(client: Client, base_path: Path) -> None:
    publish_copy(base_path, 2, damage)
    wait_for(lambda: client.states() == {2: 50, 1: 30})
    health = client.statuses()[2].status
    assert health.error_code != 0
    assert "cannot be loaded" in health.error_message
    assert client.predict().model_spec.version.value == 1


def test_a_broken_version_is_loaded_once_its_files_are_mended(
    client: Client, base_path: Path
) -> None:
    publish_copy(base_path, 2, damage)
    wait_for(lambda: client.states().get(2) == 50)
    data = "variables/variables.data-00000-of-00001"
    shutil.copyfile(base_path / "1" / data, base_path / "2" / data)
    wait_for(lambda: client.states() == {2: 30, 1: 50})
    assert client.statuses()[2].status.error_code == 0


def test_a_removed_version_gives_way_to_the_one_before(client: Client, base_path: Path) -> None:
    publish_copy(base_path, 2)
    wait_for(lambda: client.states() == {2: 30, 1: 50})
    shutil.rmtree(base_path / "2")
    wait_for(lambda: client.states() == {2: 50, 1: 30})
    assert client.predict().model_spec.version.value == 1


def test_without_versions_a_running_server_says_not_found(client: Client, base_path: Path) -> None:
    shutil.rmtree(base_path / "1")
    wait_for(lambda: client.states() == {1: 50})
    with pytest.raises(grpc.RpcError) as caught:
        client.predict()
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "Servable not found for request: Latest(segkit)"


def test_the_old_version_serves_until_the_new_one_is_available(
    manager: VersionManager, base_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[int, State]] = []
    set_state = manager._set

    def spy(*args: Any) -> None:
        set_state(*args)
        seen.append(states(manager))

    monkeypatch.setattr(manager, "_set", spy)
    manager.poll()
    publish_copy(base_path, 2)
    manager.poll()
    assert seen == [
        {1: State.LOADING},
        {1: State.AVAILABLE},
        {1: State.AVAILABLE, 2: State.LOADING},
        {1: State.AVAILABLE, 2: State.AVAILABLE},
        {1: State.END, 2: State.AVAILABLE},
    ]


def test_a_version_is_unloaded_after_its_last_request(
    manager: VersionManager, base_path: Path
) -> None:
    manager.poll()
    publish_copy(base_path, 2)
    with manager.acquire() as servable:
        assert servable is not None
        thread = threading.Thread(target=manager.poll)
        thread.start()
        wait_for(lambda: states(manager) == {1: State.UNLOADING, 2: State.AVAILABLE})
        with manager.acquire() as newer, manager.acquire(1) as old:
            assert newer is not None and newer.version == 2
            assert old is None
        assert servable.engine.run("serving_default", {"image": IMAGE})["class_ids"].shape == (
            1,
            64,
            96,
        )
    thread.join()
    assert states(manager) == {1: State.END, 2: State.AVAILABLE}


def test_unfinished_and_unnumbered_folders_are_passed_over(
    manager: VersionManager, base_path: Path
) -> None:
    (base_path / "3" / "variables").mkdir(parents=True)
    for name in (".incoming-4", "latest", "-5", "6.0", "7_old", "٨", str(2**63)):
        shutil.copytree(base_path / "1", base_path / name)
    (base_path / "9").write_text("a file")
    manager.poll()
    assert states(manager) == {1: State.AVAILABLE}


def test_leading_zeros_are_a_number(manager: VersionManager, base_path: Path) -> None:
    os.rename(base_path / "1", base_path / "00042")
    manager.poll()
    assert states(manager) == {42: State.AVAILABLE}


def test_a_base_path_that_goes_away_for_a_while_takes_nothing_down(
    manager: VersionManager, base_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager.poll()
    os.rename(base_path, base_path.with_name("away"))
    manager.poll()
    assert states(manager) == {1: State.AVAILABLE}
    assert f"Could not find base path {base_path} for servable segkit" in caplog.text


def test_the_missing_version_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = VersionManager("seg", load)
    manager.configure(tmp_path)
    with caplog.at_level(logging.WARNING):
        manager.poll()
        manager.poll()
    assert caplog.messages == [
        f"No versions of servable seg found under base path {tmp_path}. "
        "Did you forget to name your leaf directory as a number (eg. '/1/')?"
    ]


def write_warmup(version: Path, *logs: Any) -> None:
    with tf.io.TFRecordWriter(str(version / contract.WARMUP_FILE)) as writer:
        for log in logs:
            writer.write(log if isinstance(log, bytes) else log.SerializeToString())


def predict_log(image: Any) -> Any:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.name = "another name"
    log.predict_log.request.inputs["image"].CopyFrom(tf.make_tensor_proto(image))
    return log


def test_warmup_records_run_before_the_version_is_available(
    manager: VersionManager, base_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segkit.engines.tensorflow import TensorFlowEngine

    ran: list[tuple[str, dict[int, State]]] = []
    run = TensorFlowEngine.run

    def spy(self: Any, signature: str, *args: Any, **kwargs: Any) -> Any:
        ran.append((signature, states(manager)))
        return run(self, signature, *args, **kwargs)

    monkeypatch.setattr(TensorFlowEngine, "run", spy)
    manager.poll()
    assert ran == [(name, {1: State.LOADING}) for name in contract.SIGNATURES]


def session_run_log() -> Any:
    log = prediction_log_pb2.PredictionLog()
    log.session_run_log.SetInParent()
    return log


@pytest.mark.parametrize(
    ("logs", "message"),
    [
        ([predict_log(IMAGE), predict_log(IMAGE[0])], "INVALID_ARGUMENT: Shape of tensor"),
        ([session_run_log()], "UNIMPLEMENTED: Unsupported log_type for warmup: session_run_log"),
        ([b"\xff\xff"], "INVALID_ARGUMENT: Failed to parse warmup record from"),
        ([b""] * 1001, "INVALID_ARGUMENT: Number of warmup records exceeds the maximum (1000)"),
    ],
)
def test_a_failing_warmup_record_fails_the_load(
    manager: VersionManager, base_path: Path, logs: list[Any], message: str
) -> None:
    write_warmup(base_path / "1", *logs)
    manager.poll()
    (status,) = manager.statuses()
    assert status.state == State.END
    assert str(status.error).startswith(message)


def test_warmup_that_is_no_tfrecord_fails_the_load(
    manager: VersionManager, base_path: Path
) -> None:
    (base_path / "1" / contract.WARMUP_FILE).write_bytes(b"not a TFRecord file")
    manager.poll()
    (status,) = manager.statuses()
    assert str(status.error).startswith("DATA_LOSS: ")
    assert str(status.error).endswith("Please verify your warmup data is in TFRecord format.")


def test_a_version_without_warmup_records_is_served(
    manager: VersionManager, base_path: Path
) -> None:
    (base_path / "1" / contract.WARMUP_FILE).unlink()
    manager.poll()
    assert states(manager) == {1: State.AVAILABLE}
