"""What a frame costs the client: encoding the request and decoding the reply.

Both ways are measured in one run, alternating, on the same bytes:

    segkit        segkit.client.wire, no TensorFlow
    tensorflow    make_tensor_proto, protobuf, make_ndarray: what samples of TensorFlow Serving do

The reply is as tensorflow/serving 2.15 writes it: class ids as packed `int_val`. No network.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from turns import take_turns

from segkit.client.wire import decode_response, encode_request
from segkit.video.meters import percentiles

BUDGET_MS = 1.5  # encode and decode together, 640x480


def encode_segkit(image: np.ndarray) -> bytes:
    return encode_request({"image": image}, model_name="segkit", signature="serving_default")


def encode_tensorflow(image: np.ndarray) -> bytes:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "segkit"
    request.model_spec.signature_name = "serving_default"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(image))
    return request.SerializeToString()


def decode_segkit(reply: bytes) -> np.ndarray:
    return decode_response(reply)["class_ids"]


def decode_tensorflow(reply: bytes) -> np.ndarray:
    response = predict_pb2.PredictResponse.FromString(reply)
    return tf.make_ndarray(response.outputs["class_ids"])


def make_reply(ids: np.ndarray) -> bytes:
    response = predict_pb2.PredictResponse()
    tensor = response.outputs["class_ids"]
    tensor.dtype = tf.uint8.as_datatype_enum
    tensor.tensor_shape.CopyFrom(tf.TensorShape(ids.shape).as_proto())
    tensor.int_val[:] = ids.ravel().tolist()
    return response.SerializeToString()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/client_cost.json"))
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    size = (1, options.height, options.width)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    replies = {
        "ids below 128": make_reply(rng.integers(0, 19, size, np.uint8)),
        "ids with 255": make_reply(rng.choice(np.array([0, 7, 255], np.uint8), size)),
    }
    ways: dict[str, Callable[[], object]] = {
        "encode, segkit": lambda: encode_segkit(image),
        "encode, tensorflow": lambda: encode_tensorflow(image),
    }
    for kind, reply in replies.items():
        np.testing.assert_array_equal(decode_segkit(reply), decode_tensorflow(reply))
        ways[f"decode {kind}, segkit"] = lambda reply=reply: decode_segkit(reply)
        ways[f"decode {kind}, tensorflow"] = lambda reply=reply: decode_tensorflow(reply)

    passes = take_turns(ways, options.repeats, warm_up=10)
    for way in ("segkit", "tensorflow"):
        pairs = zip(passes[f"encode, {way}"], passes[f"decode ids below 128, {way}"], strict=True)
        passes[f"encode + decode, {way}"] = [sum(pair) for pair in pairs]
    figures = {
        name: dict(zip(("p50_ms", "p99_ms"), percentiles(values, (50, 99)), strict=True))
        for name, values in passes.items()
    }
    record = {
        "command": "python " + " ".join(sys.argv),
        "image_size": [options.height, options.width],
        "repeats": options.repeats,
        "machine": f"{os.cpu_count()} x {platform.machine()}, Python {platform.python_version()}",
        "figures": figures,
        "budget_ms": BUDGET_MS,
    }
    report(record, figures)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {options.output}")
    over = figures["encode + decode, segkit"]["p50_ms"] > BUDGET_MS
    return int(over and size[1:] == (480, 640))


def report(record: dict[str, object], figures: dict[str, dict[str, float]]) -> None:
    print(f"{record['command']}\n{record['machine']}, {record['repeats']} repeats")
    print(f"{'median (p99), ms':<24}{'segkit':>18}{'tensorflow':>20}{'ratio':>8}")
    for name in dict.fromkeys(name.rsplit(", ", 1)[0] for name in figures):
        ours, theirs = figures[f"{name}, segkit"], figures[f"{name}, tensorflow"]
        cells = [f"{f['p50_ms']:.3f} ({f['p99_ms']:.3f})" for f in (ours, theirs)]
        ratio = theirs["p50_ms"] / ours["p50_ms"]
        print(f"{name:<24}{cells[0]:>18}{cells[1]:>20}{ratio:>7.1f}x")


if __name__ == "__main__":
    raise SystemExit(main())
