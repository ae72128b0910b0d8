"""Malformed requests over gRPC."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import tensorflow as tf
from malformed_kinds import Generator, kind, long_name
from serving_common import MODEL_NAME, TINY_SIZE
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
)

from segkit.client.remote import GET_MODEL_STATUS, PREDICT
from segkit.contract import ENCODED_IMAGE, IMAGE, QUERY

PREDICTION = "/tensorflow.serving.PredictionService/"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
METHODS = (
    PREDICT,
    f"{PREDICTION}GetModelMetadata",
    f"{PREDICTION}Classify",
    f"{PREDICTION}Regress",
    f"{PREDICTION}MultiInference",
    GET_MODEL_STATUS,
)
INVALID, NOT_FOUND, PRECONDITION = "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"
ANY = ("OK", "INTERNAL", INVALID, NOT_FOUND, PRECONDITION)
HUGE = (2**62, 2**63 - 1, 10**9, 2**31, -1, -(2**63), 70_000, 0)


def request(**inputs: object) -> predict_pb2.PredictRequest:
    """A PredictRequest of arrays or TensorProtos."""
    message = predict_pb2.PredictRequest()
    message.model_spec.name = MODEL_NAME
    for name, value in inputs.items():
        is_proto = isinstance(value, type(tf.make_tensor_proto(0)))
        message.inputs[name].CopyFrom(value if is_proto else tf.make_tensor_proto(value))
    return message


def image(rng: Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape or (1, *TINY_SIZE, 3), np.uint8)


def png_head(width: int, height: int) -> bytes:
    """The beginning of a PNG that says that it is of that size, and no more."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + body


# === Bytes that are no message ===


@kind("INTERNAL", INVALID, NOT_FOUND)
def random_bytes(rng: Generator) -> dict:
    body = rng.bytes(int(rng.integers(1, 1 << int(rng.integers(1, 16)))))
    return {"target": str(rng.choice(METHODS)), "body": body}


@kind("INTERNAL", INVALID)
def truncated_request(rng: Generator) -> bytes:
    whole = request(image=image(rng)).SerializeToString()
    return whole[: int(rng.integers(0, len(whole)))]


@kind(*ANY)
def flipped_bits(rng: Generator) -> bytes:
    body = bytearray(request(image=image(rng, 1, 8, 8, 3)).SerializeToString())
    for position in rng.integers(0, len(body), int(rng.integers(1, 20))):
        body[position] ^= 1 << int(rng.integers(0, 8))
    return bytes(body)


@kind("INTERNAL", gzip=True)
def compressed_zeros(rng: Generator) -> bytes:
    return bytes(int(rng.integers(1, 1 << 24)))


@kind("UNIMPLEMENTED")
def unknown_method(rng: Generator) -> dict:
    word = "".join(map(chr, rng.integers(97, 123, 12)))
    service = str(rng.choice([PREDICTION, "/tensorflow.serving.SessionService/", "/x/"]))
    return {"target": service + word, "body": rng.bytes(8)}


# === Tensors ===


@kind(INVALID)
def wrong_dtype(rng: Generator) -> predict_pb2.PredictRequest:
    others = [number for number in types_pb2.DataType.values() if number != types_pb2.DT_UINT8]
    proto = tf.make_tensor_proto(image(rng, 1, 2, 2, 3))
    proto.dtype = int(rng.choice([*others, 77, 1000]))
    return request(image=proto)


@kind(INVALID)
def wrong_rank(rng: Generator) -> predict_pb2.PredictRequest:
    shape = [1] * int(rng.choice([0, 1, 2, 3, 5, 6, 31, 40, 254, 300]))
    proto = tf.make_tensor_proto(np.uint8(1), shape=[])
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return request(image=proto)


@kind(INVALID)
def wrong_size(rng: Generator) -> predict_pb2.PredictRequest:
    height, width, channels = rng.integers(1, 300, 3)
    if (height, width) == TINY_SIZE:
        height += 1
    return request(image=image(rng, 1, int(height), int(width), 1 + int(channels) % 5))


@kind(INVALID)
def huge_sizes(rng: Generator) -> predict_pb2.PredictRequest:
    proto = tf.make_tensor_proto(np.uint8(1))
    sizes = [int(size) for size in rng.choice(np.array(HUGE, object), 3)]
    for size in (10**9, *sizes):
        proto.tensor_shape.dim.add(size=size)
    if rng.integers(2):
        del proto.int_val[:]
        proto.tensor_content = b""
    return request(image=proto)


@kind(INVALID)
def batch_of_nothing(rng: Generator) -> predict_pb2.PredictRequest:
    """The shape fits, and would be gigabytes."""
    proto = tf.make_tensor_proto(np.uint8(0), shape=[])
    for size in (int(rng.integers(10**4, 10**12)), *TINY_SIZE, 3):
        proto.tensor_shape.dim.add(size=size)
    return request(image=proto)


@kind(INVALID)
def unknown_rank(rng: Generator) -> predict_pb2.PredictRequest:
    proto = tf.make_tensor_proto(image(rng))
    proto.tensor_shape.unknown_rank = True
    return request(image=proto)


@kind(INVALID)
def content_of_another_length(rng: Generator) -> predict_pb2.PredictRequest:
    proto = tf.make_tensor_proto(image(rng))
    whole = proto.tensor_content
    less = whole[: int(rng.integers(1, len(whole)))]
    proto.tensor_content = less if rng.integers(2) else whole + less
    return request(image=proto)


@kind("OK")
def too_few_or_many_values(rng: Generator) -> predict_pb2.PredictRequest:
    """The protocol's own way to write a constant, and what is too much is left out."""
    proto = tf.make_tensor_proto(np.uint8(1), shape=[])
    for size in (1, *TINY_SIZE, 3):
        proto.tensor_shape.dim.add(size=size)
    proto.int_val[:] = rng.integers(-(2**31), 2**31, int(rng.integers(0, 40_000))).tolist()
    return request(image=proto)


@kind(INVALID)
def strings_for_an_image(rng: Generator) -> predict_pb2.PredictRequest:
    files = np.array([rng.bytes(9)] * int(rng.integers(1, 9)), object)
    return request(image=files.reshape(-1, 1, 1, 1)[:, :, :, : int(rng.integers(1, 2))])


# === Names ===


@kind(NOT_FOUND)
def unknown_model(rng: Generator) -> predict_pb2.PredictRequest:
    message = request(image=image(rng))
    message.model_spec.name = "x" + long_name(rng)
    return message


@kind(INVALID)
def no_model(rng: Generator) -> predict_pb2.PredictRequest:
    message = request(image=image(rng))
    message.model_spec.name = ""
    if rng.integers(2):
        message.ClearField("model_spec")
    return message


@kind(NOT_FOUND)
def unknown_version(rng: Generator) -> predict_pb2.PredictRequest:
    message = request(image=image(rng))
    message.model_spec.version.value = int(rng.integers(-(2**63), 2**63 - 1)) | 2
    return message


@kind(INVALID)
def unknown_label(rng: Generator) -> predict_pb2.PredictRequest:
    message = request(image=image(rng))
    message.model_spec.version_label = long_name(rng)
    return message


@kind(PRECONDITION)
def unknown_signature(rng: Generator) -> predict_pb2.PredictRequest:
    message = request(image=image(rng))
    message.model_spec.signature_name = long_name(rng)
    return message


@kind(INVALID)
def unknown_inputs(rng: Generator) -> predict_pb2.PredictRequest:
    names = [long_name(rng) for _ in range(int(rng.integers(0, 4)))]
    return request(**{name: np.uint8(0) for name in names})


@kind(INVALID)
def many_inputs(rng: Generator) -> predict_pb2.PredictRequest:
    return request(**{f"image{n}": np.uint8(0) for n in range(int(rng.integers(2, 2000)))})


@kind(INVALID)
def unknown_outputs(rng: Generator) -> predict_pb2.PredictRequest:
    message = request(image=image(rng))
    known = int(rng.integers(3))  # the same one several times, too
    message.output_filter.extend(["class_ids"] * known)
    message.output_filter.extend([long_name(rng)] * (known < 2 or int(rng.integers(2))))
    return message


# === Files ===


@kind(INVALID)
def no_image_files(rng: Generator) -> predict_pb2.PredictRequest:
    heads = (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF", b"II*\0", b"P6")
    head = heads[int(rng.integers(len(heads)))]
    return encoded(head + rng.bytes(int(rng.integers(0, 5000))))


@kind(INVALID)
def huge_image_files(rng: Generator) -> predict_pb2.PredictRequest:
    width, height = (int(2 ** rng.uniform(14, 31)) for _ in range(2))
    if rng.integers(2):
        return encoded(png_head(width, height))
    file = bytearray(tf.io.encode_jpeg(image(rng, 16, 16, 3)).numpy())
    struct.pack_into(">HH", file, file.index(b"\xff\xc0") + 5, 65_500, 65_500)
    return encoded(bytes(file))


@kind("OK", INVALID)
def damaged_image_files(rng: Generator) -> predict_pb2.PredictRequest:
    encode = tf.io.encode_jpeg if rng.integers(2) else tf.io.encode_png
    file = bytearray(encode(image(rng, 40, 40, 3)).numpy())
    for position in rng.integers(30, len(file), int(rng.integers(1, 30))):
        file[position] = int(rng.integers(0, 256))
    return encoded(bytes(file[: int(rng.integers(30, len(file)))]))


@kind(INVALID)
def endless_descriptions(rng: Generator) -> predict_pb2.PredictRequest:
    """A description for each of billions of queries that are not there."""
    proto = tf.make_tensor_proto([b""])
    proto.tensor_shape.dim[0].size = int(rng.integers(10**4, 10**12))
    message = request(**{QUERY: proto})
    message.model_spec.signature_name = "describe"
    return message


def encoded(*files: bytes) -> predict_pb2.PredictRequest:
    message = request(**{ENCODED_IMAGE: np.array(files, object)})
    message.model_spec.signature_name = "encoded"
    return message


# === Other methods ===


@kind(INVALID, NOT_FOUND)
def metadata_of_nothing(rng: Generator) -> dict:
    message = get_model_metadata_pb2.GetModelMetadataRequest()
    message.model_spec.name = long_name(rng) if rng.integers(2) else MODEL_NAME
    fields = [[], ["weights"], ["signature_def", long_name(rng)]]
    message.metadata_field.extend(fields[int(rng.integers(3))])
    return {"target": METHODS[1], "body": message.SerializeToString()}


@kind(INVALID, NOT_FOUND)
def status_of_nothing(rng: Generator) -> dict:
    message = get_model_status_pb2.GetModelStatusRequest()
    if rng.integers(4):
        message.model_spec.name = long_name(rng) if rng.integers(2) else MODEL_NAME
        message.model_spec.version.value = int(rng.integers(2, 2**63 - 1))
    return {"target": GET_MODEL_STATUS, "body": message.SerializeToString()}


@kind(INVALID, NOT_FOUND)
def examples(rng: Generator) -> dict:
    message = classification_pb2.ClassificationRequest()
    message.model_spec.name = MODEL_NAME if rng.integers(4) else long_name(rng)
    message.model_spec.signature_name = long_name(rng) if rng.integers(2) else ""
    for _ in range(int(rng.integers(0, 50))):
        message.input.example_list.examples.add().features.feature[IMAGE].int64_list.value.append(1)
    return {"target": str(rng.choice(METHODS[2:4])), "body": message.SerializeToString()}


@kind(INVALID, NOT_FOUND, "UNIMPLEMENTED")
def inference_tasks(rng: Generator) -> dict:
    message = inference_pb2.MultiInferenceRequest()
    for _ in range(int(rng.integers(0, 20))):
        task = message.tasks.add(method_name="tensorflow/serving/" + long_name(rng))
        task.model_spec.name = MODEL_NAME if rng.integers(8) else long_name(rng)
        task.model_spec.signature_name = str(rng.choice(["", "confidence", "x"]))
    return {"target": METHODS[4], "body": message.SerializeToString()}


@kind(INVALID, target=RELOAD)
def impossible_configurations(rng: Generator) -> dict:
    """None of them may change what is served."""
    message = model_management_pb2.ReloadConfigRequest()
    if rng.integers(4):
        models = message.config.model_config_list.config
        models.add(name="x", base_path=long_name(rng).lstrip("/"), model_platform="tensorflow")
        for _ in range(int(rng.integers(0, 3))):
            models.add(name="x", base_path="/x", model_platform=long_name(rng))
    return {"body": message.SerializeToString()}


# === The protocol ===


@kind("OK", "DEADLINE_EXCEEDED")
def impatient(rng: Generator) -> dict:
    body = request(image=image(rng, 8, *TINY_SIZE, 3)).SerializeToString()
    return {"body": body, "timeout_s": float(rng.uniform(0.0005, 0.02))}


@kind(INVALID, "RESOURCE_EXHAUSTED")
def large_metadata(rng: Generator) -> dict:
    return {"headers": (("x-large", "x" * int(rng.integers(1, 60_000))),)}
