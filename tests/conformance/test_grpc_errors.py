"""What is refused over gRPC, with its code and message: the table is grpc_cases.py."""

from __future__ import annotations

import re
from typing import Any

import grpc
import pytest
from conformance_server import Target, call
from grpc_cases import CASES
from grpc_requests import CLASSIFY, PREDICT, REGRESS, GrpcCase, model_spec, predict_request
from tensorflow_serving.apis import classification_pb2, regression_pb2


def status(channel: grpc.Channel, method: str, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method, request)
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row)
def test_refused(channel: grpc.Channel, target: Target, case: GrpcCase) -> None:
    if case.kills_server and not target.is_embedded:
        pytest.skip("ends the process of a tensorflow/serving; segkit's server refuses it")
    code, message = status(channel, case.method, case.request(target.model_name))
    if isinstance(case.message, re.Pattern):
        assert case.message.fullmatch(message), message
    else:
        assert message == case.message
    assert code == case.code


def test_the_server_answers_after_all_of_that(channel: grpc.Channel, target: Target) -> None:
    assert call(channel, PREDICT, predict_request(target.model_name))


@pytest.mark.parametrize(
    ("method", "request_type", "noun", "wanted"),
    [
        (CLASSIFY, classification_pb2.ClassificationRequest, "classification", "classify"),
        (REGRESS, regression_pb2.RegressionRequest, "regression", "regress"),
    ],
)
def test_refused_where_signatures_are_held_to_their_method(
    bare_channel: grpc.Channel,
    bare_target: Target,
    method: str,
    request_type: Any,
    noun: str,
    wanted: str,
) -> None:
    request = request_type(**model_spec(bare_target.model_name))
    assert status(bare_channel, method, request) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        f"Expected {noun} signature method_name to be tensorflow/serving/{wanted}. "
        "Was: tensorflow/serving/predict",
    )
