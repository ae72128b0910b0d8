"""Clients that share no code with segkit or TensorFlow, each a program of its own environment."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conformance_server import Target, call, counter
from grpc_requests import IMAGE, PREDICT, predict_request
from tensorflow_serving.apis import predict_pb2

OVMS_CLIENT = Path(__file__).with_name("ovms_client.py")
PATIENCE_SECONDS = 120
SHAPES = {
    "inputs": {"image": {"shape": [-1, 64, 96, 3], "dtype": "DT_UINT8"}},
    "outputs": {"class_ids": {"shape": [-1, 64, 96], "dtype": "DT_UINT8"}},
}


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_ovmsclient_reads_what_the_stubs_read(
    protocol: str,
    channel: grpc.Channel,
    target: Target,
    request: pytest.FixtureRequest,
    ovmsclient_python: str,
    tmp_path: Path,
) -> None:
    address = target.grpc if protocol == "grpc" else request.getfixturevalue("rest")
    np.save(tmp_path / "image.npy", IMAGE)
    said = json.loads(
        run(ovmsclient_python, OVMS_CLIENT, protocol, address, target.model_name, tmp_path)
    )
    raw = call(channel, PREDICT, predict_request(target.model_name, version=1))
    expected = tf.make_ndarray(predict_pb2.PredictResponse.FromString(raw).outputs["class_ids"])
    answer = np.load(tmp_path / "answer.npy")
    np.testing.assert_array_equal(answer, expected)
    assert said["status"] == {"1": {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
    kind, message = said["error"]
    assert kind == "ModelNotFoundError"
    assert message.endswith("Servable not found for request: Specific(x, 1)")
    if protocol == "grpc":
        assert answer.dtype == np.uint8
        assert said["metadata"] == {"model_version": 1, **SHAPES}
    else:  # it looks for the names that OpenVINO's server has, and gives the reply as it came
        assert said["metadata"]["model_spec"]["version"] == "1"


@pytest.mark.parametrize(
    "flags",
    [
        ("--shape", "image:1,64,96,3"),
        ("--shape", "image:3,64,96,3", "--model-signature-name", "confidence"),
        ("--shape", "image:1,64,96,3", "--concurrency-range", "4"),
    ],
    ids=["one by one", "signature and batch", "four at a time"],
)
def test_perf_analyzer_has_no_error(
    target: Target, rest: str, perf_analyzer: str, flags: tuple[str, ...]
) -> None:
    counts = {
        status: {"model_name": target.model_name, "status": status}
        for status in ("OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "INTERNAL", "UNAVAILABLE")
    }

    def counted() -> dict[str, float]:
        name = ":tensorflow:serving:request_count"
        return {status: counter(rest, name, labels) for status, labels in counts.items()}

    before = counted()
    # -s and -r: any spread will do after three windows, it is no measurement.
    printed = run(
        perf_analyzer, "--service-kind", "tfserving", "-i", "grpc", "-u", target.grpc,
        "-m", target.model_name, *flags, "--measurement-mode", "count_windows",
        "--measurement-request-count", "50", "-s", "999", "-r", "3",
    )  # fmt: skip
    found = re.search(r"Request count: (\d+)", printed)
    assert found and int(found[1]) >= 50, printed
    assert not re.search("error|fail", printed, re.IGNORECASE), printed
    increase = {status: value - before[status] for status, value in counted().items()}
    assert increase.pop("OK") >= int(found[1])
    assert not any(increase.values())
