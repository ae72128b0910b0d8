"""A version's life: configurations by HandleReloadConfigRequest, and labels."""

from __future__ import annotations

import json

import grpc
import pytest
from conformance_export import BARE, expected_class_ids
from conformance_server import model_states, send_http
from grpc_requests import IMAGE, INVALID, GrpcCase
from reload_cases import RELOAD_CASES
from reloading import (
    AVAILABLE,
    END,
    LOADING,
    Server,
    Watch,
    model_config,
    reload_request,
    wait_until,
)

MISSING = 9  # a version that no model has
SECOND, THIRD = "second", "third"  # models that only these tests add


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
        wait_until(lambda: latest.answers[-1:] == [3], "version 3 answers")
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
        wait_until(lambda: latest.answers[-1:] == [2], "version 2 answers")
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
        wait_until(lambda: stable.answers[-1:] == [2], "the label moved")
        server.reload(server.config(2, labels={"stable": 2}), server.bare)
        server.wait({1: END})
    assert stable.answers == [1, 2]
