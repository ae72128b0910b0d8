"""A model server of a few lines that fails as told, speaking TensorFlow Serving's own messages."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2

from segkit.contract import Metadata

SERVICE = "/tensorflow.serving."
Answer = Callable[[Any, np.ndarray], np.ndarray]


def brightness(context: Any, images: np.ndarray) -> np.ndarray:
    """Class ids that tell which image it was: its first pixel's red, 0..2."""
    return np.broadcast_to(images[:, :1, :1, 0] % 3, images.shape[:3]).astype(np.uint8)


class FakeServer:
    """Serves one model named segkit.

    `answer` makes class ids of images and may abort; `models` is sent with NOT_FOUND if not empty.
    """

    def __init__(self, metadata: Metadata, port: int = 0, *, credentials: Any = None) -> None:
        self.metadata_json = metadata.to_json().encode()
        self.answer: Answer = brightness
        self.models = ""
        self.requests = self.under_way = self.most_under_way = 0
        self._lock = threading.Lock()
        self._server = grpc.server(
            ThreadPoolExecutor(16),
            handlers=[_Handlers(self)],
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)],
        )
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self.address = f"127.0.0.1:{self.port}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def predict(self, raw: bytes, context: Any) -> bytes:
        request = predict_pb2.PredictRequest.FromString(raw)
        self._check_name(request.model_spec, context)
        response = predict_pb2.PredictResponse()
        if request.model_spec.signature_name == "describe":
            response.outputs["metadata"].CopyFrom(tf.make_tensor_proto([self.metadata_json]))
            return response.SerializeToString()
        with self._lock:
            self.requests += 1
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        signature = request.model_spec.signature_name
        try:
            if signature == "encoded":
                (file,) = request.inputs["encoded_image"].string_val
                image = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
                ids = self.answer(context, image[None, ..., ::-1])
            else:
                ids = self.answer(context, tf.make_ndarray(request.inputs["image"]))
        finally:
            with self._lock:
                self.under_way -= 1
        if signature == "encoded":
            png = cv2.imencode(".png", ids[0])[1].tobytes()
            response.outputs["encoded_mask"].CopyFrom(tf.make_tensor_proto([png]))
            return response.SerializeToString()
        self._put(response.outputs["class_ids"], ids)
        if signature == "confidence":
            self._put(response.outputs["confidence"], 255 - ids)
        return response.SerializeToString()

    def _put(self, tensor: Any, values: np.ndarray) -> None:
        tensor.dtype = tf.as_dtype(values.dtype).as_datatype_enum
        tensor.tensor_shape.CopyFrom(tf.TensorShape(values.shape).as_proto())
        tensor.int_val[:] = values.ravel().tolist()

    def status(self, raw: bytes, context: Any) -> bytes:
        request = get_model_status_pb2.GetModelStatusRequest.FromString(raw)
        response = get_model_status_pb2.GetModelStatusResponse()
        if request.model_spec.name != "segkit":
            context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions")
        for version in (1, 4):
            response.model_version_status.add(version=version, state=30)
        response.model_version_status.add(version=5, state=20)
        return response.SerializeToString()

    def _check_name(self, spec: Any, context: Any) -> None:
        wanted = f"Latest({spec.name})"
        if spec.HasField("version"):
            wanted = f"Specific({spec.name}, {spec.version.value})"
        if spec.name == "segkit" and not spec.HasField("version"):
            return
        if self.models:
            context.set_trailing_metadata((("segkit-models", self.models),))
        context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, server: FakeServer) -> None:
        self._methods = {
            SERVICE + "PredictionService/Predict": server.predict,
            SERVICE + "ModelService/GetModelStatus": server.status,
        }

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._methods[handler_call_details.method])


@pytest.fixture
def fake_server_type() -> type[FakeServer]:
    return FakeServer


@pytest.fixture
def fake_server(tiny_metadata: Metadata) -> Iterator[FakeServer]:
    server = FakeServer(tiny_metadata)
    yield server
    server.stop()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
