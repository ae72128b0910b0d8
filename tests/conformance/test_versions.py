"""A version's life: configurations by HandleReloadConfigRequest, labels, the polled folder."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conformance_export import BARE, expected_class_ids
from conformance_server import Target, call, model_states, send_http
from grpc_cases import IMAGE, PREDICT, RELOAD, GrpcCase, predict_request
from tensorflow_serving.apis import model_management_pb2, predict_pb2
from tensorflow_serving.config import model_server_config_pb2

START, LOADING, AVAILABLE, UNLOADING, END = 10, 20, 30, 40, 50
INVALID = grpc.StatusCode.INVALID_ARGUMENT
PATIENCE_SECONDS = 60
MISSING = 9  # a version that no model has
SECOND, THIRD = "second", "third"  # models that only these tests add

Config = dict[str, Any]


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


@pytest.fixture
def server(channel: grpc.Channel, target: Target) -> Iterator[Server]:
    """The server; afterwards it serves again what the other tests expect."""
    server = Server(channel, target)
    server.wait({1: AVAILABLE, 2: AVAILABLE})
    yield server
    server.reload(server.config(1, 2), server.bare)
    server.wait({1: AVAILABLE, 2: AVAILABLE})
    wait_until(lambda: server.states().get(3, END) == END, "version 3 has gone")


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


RELOAD_CASES = (
    GrpcCase(
        "not a list",
        RELOAD,
        lambda model: model_management_pb2.ReloadConfigRequest(config={"custom_model_config": {}}),
        INVALID,
        "ServerModelConfig type not supported by HandleReloadConfigRequest."
        " Only ModelConfigList is currently supported",
    ),
    GrpcCase(
        "no configuration",
        RELOAD,
        lambda model: model_management_pb2.ReloadConfigRequest(),
        INVALID,
        "ServerModelConfig type not supported by HandleReloadConfigRequest."
        " Only ModelConfigList is currently supported",
    ),
    GrpcCase(
        "duplicate",
        RELOAD,
        lambda model: reload_request(model_config("x", "/a"), model_config("x", "/b")),
        INVALID,
        "Illegal to list model x multiple times in config list",
    ),
    GrpcCase(
        "relative path",
        RELOAD,
        lambda model: reload_request(model_config("x", "models/x")),
        INVALID,
        "Expected model x to have an absolute path or URI; got base_path()=models/x",
    ),
    GrpcCase(
        "another platform for a model that is served",
        RELOAD,
        lambda model: reload_request(model_config(BARE, "/a", model_platform="x")),
        INVALID,
        f"Illegal to change a model's platform. For model {BARE} platform was tensorflow "
        "and new platform requested is x",
    ),
    GrpcCase(
        "no platform",
        RELOAD,
        lambda model: reload_request(model_config(BARE, "/a", model_platform="")),
        INVALID,
        "Illegal setting neither ModelServerConfig::model_type (deprecated) "
        f"nor ModelServerConfig::model_platform, model name is {BARE}",
    ),
)


@pytest.mark.parametrize("case", RELOAD_CASES, ids=lambda case: case.row)
def test_reload_refused(server: Server, case: GrpcCase) -> None:
    assert server.refused(case.request(server.model)) == (case.code, case.message)
    assert server.answer() == 2


def test_reload_refuses_an_unknown_platform(server: Server) -> None:
    new = model_config(SECOND, server.root / BARE, model_platform="x")
    assert server.refused(reload_request(server.config(1, 2), server.bare, new)) == (
        INVALID,
        f"Model {SECOND} requests unsupported platform x",
    )
    assert server.answer() == 2


def test_reload_answers_ok_with_the_increase_of_the_metrics_it_names(server: Server) -> None:
    names = ["/tensorflow/serving/request_count", "/nothing"]
    response = server.reload(server.config(1, 2), server.bare, metrics=names)
    assert (response.status.error_code, response.status.error_message) == (0, "")
    increases = {metric.name: metric.int64_value_increase for metric in response.metric}
    assert increases == dict.fromkeys(names, 0)


def test_a_new_model_answers_as_soon_as_reload_has(server: Server) -> None:
    new = model_config(SECOND, server.root / server.model)
    server.reload(server.config(1, 2), server.bare, new)
    assert server.answer(SECOND) == 3  # the latest, by default
    assert server.states(SECOND)[3] == AVAILABLE
    assert server.answer() == 2


def test_a_model_that_is_left_out_goes_and_stays_listed(server: Server) -> None:
    new = model_config(THIRD, server.root / server.model, [1])
    server.reload(server.config(1, 2), server.bare, new)
    assert server.answer(THIRD) == 1
    server.reload(server.config(1, 2), server.bare)
    server.wait({1: END}, THIRD)
    with pytest.raises(grpc.RpcError) as caught:
        server.answer(THIRD)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == f"Servable not found for request: Latest({THIRD})"


@pytest.mark.xfail(
    strict=True,
    reason="Models.reload waits for models it never had, not for those that come back",
)
def test_a_model_that_comes_back_answers_as_soon_as_reload_has(server: Server) -> None:
    back = model_config(SECOND, server.root / server.model, [1])
    server.reload(server.config(1, 2), server.bare, back)
    server.reload(server.config(1, 2), server.bare)
    server.wait({1: END}, SECOND)
    server.reload(server.config(1, 2), server.bare, back)
    assert server.answer(SECOND) == 1


def test_a_version_loads_while_the_others_serve(server: Server) -> None:
    with Watch(lambda: server.states().get(3)) as third, Watch(server.answer) as latest:
        server.reload(server.config(1, 2, 3), server.bare)
        server.wait({3: AVAILABLE})
        wait_until(lambda: latest.answers[-1] == 3, "version 3 answers")
    loading = [state for state in third.answers if state not in (None, END)]
    assert loading == sorted(loading), "START, LOADING, AVAILABLE, in this order"
    assert {LOADING, AVAILABLE} <= set(loading)
    assert latest.answers == [2, 3]
    assert server.states() == {3: AVAILABLE, 2: AVAILABLE, 1: AVAILABLE}


def test_a_version_that_is_left_out_ends_and_stays_listed(server: Server) -> None:
    with Watch(lambda: server.states()[2]) as second:
        server.reload(server.config(1), server.bare)
        server.wait({2: END})
    assert second.answers[0] == AVAILABLE and second.answers[-1] == END
    assert second.answers == sorted(second.answers)
    assert server.answer() == 1
    with pytest.raises(grpc.RpcError) as caught:
        server.answer(version=2)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == f"Servable not found for request: Specific({server.model}, 2)"
    assert model_states(server.channel, server.model, version=2) == [(2, END)]
    server.reload(server.config(1, 2), server.bare)  # and comes back
    server.wait({2: AVAILABLE})
    assert server.answer() == 2


def test_one_version_replaces_another_without_a_gap(server: Server) -> None:
    server.reload(server.config(1), server.bare)
    server.wait({2: END})
    with Watch(server.answer) as latest:
        server.reload(server.config(2), server.bare)
        server.wait({1: END, 2: AVAILABLE})
        wait_until(lambda: latest.answers[-1] == 2, "version 2 answers")
    assert latest.answers == [1, 2]


def test_a_version_that_is_not_there_changes_nothing(server: Server) -> None:
    server.reload(server.config(1, 2, MISSING), server.bare)
    assert server.answer() == 2
    with pytest.raises(grpc.RpcError) as caught:
        server.answer(version=MISSING)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_labels_move_between_versions(server: Server) -> None:
    server.reload(server.config(1, 2, labels={"stable": 1, "canary": 2}), server.bare)
    assert (server.answer(label="stable"), server.answer(label="canary")) == (1, 2)
    server.reload(server.config(1, 2, labels={"stable": 2}), server.bare)
    assert server.answer(label="stable") == 2
    with pytest.raises(grpc.RpcError) as caught:
        server.answer(label="canary")
    assert (caught.value.code(), caught.value.details()) == (
        INVALID,
        "Unrecognized servable version label: canary",
    )


def test_labels_are_part_of_rest_paths(server: Server, rest: str) -> None:
    server.reload(server.config(1, 2, labels={"stable": 1}), server.bare)
    path = f"/v1/models/{server.model}/labels/stable"
    body = json.dumps({"instances": IMAGE.tolist()})
    answer = send_http(rest, "POST", f"{path}:predict", body).json["predictions"]
    assert answer == expected_class_ids(1, IMAGE).tolist()
    assert send_http(rest, "GET", f"{path}/metadata").json["model_spec"]["version"] == "1"
    # A status is that of every version: labels are ignored.
    of_all = send_http(rest, "GET", f"/v1/models/{server.model}")
    assert send_http(rest, "GET", path).body == of_all.body


@pytest.mark.parametrize("version", [3, MISSING])
def test_a_label_needs_a_version_that_is_available(server: Server, version: int) -> None:
    server.reload(server.config(1, 2, labels={"stable": 1}), server.bare)
    labels = {"stable": version}
    request = reload_request(server.config(1, 2, version, labels=labels), server.bare)
    assert server.refused(request) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        f"Request to assign label to version {version} of model {server.model}, "
        "which is not currently available for inference",
    )
    assert server.answer(label="stable") == 1


def test_a_rollout_in_three_reloads_fails_no_request(server: Server) -> None:
    """Add the version, wait, move the label, drop the old one: what a client sees of it."""
    server.reload(server.config(1, labels={"stable": 1}), server.bare)
    server.wait({2: END})
    with Watch(lambda: server.answer(label="stable")) as stable:
        server.reload(server.config(1, 2, labels={"stable": 1}), server.bare)
        server.wait({2: AVAILABLE})
        server.reload(server.config(1, 2, labels={"stable": 2}), server.bare)
        wait_until(lambda: stable.answers[-1] == 2, "the label moved")
        server.reload(server.config(2, labels={"stable": 2}), server.bare)
        server.wait({1: END})
    assert stable.answers == [1, 2]


@pytest.fixture
def polled(server: Server) -> Iterator[Path]:
    """An empty folder where the server looks for versions of a model of the folder's name."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="polled_", dir=server.root))
    except OSError as err:
        pytest.skip(f"the server's folder of models is not one that can be written here: {err}")
    folder.chmod(0o755)
    yield folder
    server.reload(server.config(1, 2), server.bare)
    shutil.rmtree(folder)


def test_a_folder_is_followed(server: Server, polled: Path) -> None:
    name = polled.name

    def publish(number: int) -> None:
        shutil.copytree(server.root / server.model / str(number), polled / ".incoming")
        (polled / ".incoming").rename(polled / str(number))

    publish(1)
    server.reload(server.config(1, 2), server.bare, model_config(name, polled))
    with Watch(lambda: server.answer(name)) as latest:
        publish(2)
        server.wait({1: END, 2: AVAILABLE}, name)
        wait_until(lambda: latest.answers[-1] == 2, "version 2 answers")
        shutil.rmtree(polled / "2")
        server.wait({1: AVAILABLE, 2: END}, name)
        wait_until(lambda: latest.answers[-1] == 1, "version 1 answers again")
    assert latest.answers == [1, 2, 1]
    assert list(server.states(name)) == [2, 1]
    shutil.rmtree(polled / "1")
    server.wait({1: END, 2: END}, name)


def test_what_is_no_number_is_no_version(server: Server, polled: Path) -> None:
    name = polled.name
    for folder in ("1", "2x", "x2", ".2"):
        shutil.copytree(server.root / server.model / "1", polled / folder)
    server.reload(server.config(1, 2), server.bare, model_config(name, polled))
    assert server.answer(name) == 1
    assert server.states(name) == {1: AVAILABLE}


def test_a_version_that_fails_to_load_takes_nothing_down(server: Server, polled: Path) -> None:
    name = polled.name
    shutil.copytree(server.root / server.model / "1", polled / "1")
    server.reload(server.config(1, 2), server.bare, model_config(name, polled))
    broken = polled / ".incoming"
    shutil.copytree(server.root / server.model / "2", broken)
    (broken / "saved_model.pb").write_bytes(b"no SavedModel")
    with Watch(lambda: server.answer(name)) as latest:
        broken.rename(polled / "2")
        wait_until(lambda: 2 in server.states(name), "version 2 is seen")
        # tensorflow/serving tries again for minutes: LOADING there, END where it has given up.
        wait_until(lambda: server.states(name)[2] in (LOADING, END), "version 2 is tried")
    assert latest.answers == [1]
    assert server.states(name)[1] == AVAILABLE
