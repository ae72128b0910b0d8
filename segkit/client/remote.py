"""RemoteSegmenter: a model behind tensorflow/serving, or segkit's embedded server."""

from __future__ import annotations

import json
import re
import threading
import time
from concurrent.futures import Future
from typing import Any, Self

import grpc
import numpy as np

from segkit import contract
from segkit.client import wire_pb2
from segkit.client.credentials import Credentials
from segkit.client.failures import server_error
from segkit.client.handshake import find_fault
from segkit.client.segmenter import Answer, resize_batch
from segkit.client.wire import Array, decode_response, encode_request
from segkit.client.wire_format import RAW, WireFormat, class_map
from segkit.contract import SERVED_MODELS_KEY, Metadata
from segkit.errors import ConfigError, ContractMismatch, ModelNotFound, ServerError
from segkit.video.frame import Image, Mask

__all__ = ["RemoteSegmenter"]

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
START, LOADING, AVAILABLE = 10, 20, 30  # ModelVersionStatus.State
# A connection that is gone without a word (a pulled cable, a router that forgot) answers nothing
# until its system gives it up, after minutes. So many requests without an answer end it here.
REOPEN_AFTER_TIMEOUTS = 8
REOPEN_PAUSE_S = 10.0

ADDRESS = re.compile(r".+:\d{1,5}|(unix|unix-abstract|dns|ipv4|ipv6):.+")
STATUS_TIMEOUT_S = 5.0
UNKNOWN_LABEL = "Unrecognized servable version label"  # the server's words
RETRY_BUFFER_BYTES = 64 << 20  # gRPC's 256 KiB silently turns off the retry of a larger request

# A blip is retried here, within one request; an outage is the caller's to wait out.
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "tensorflow.serving.PredictionService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 1),
    ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER_BYTES),
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    # By default a client looks again only after minutes when the server was away for long.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Model servers are addressed directly; a proxy meant for web pages answers nonsense.
    ("grpc.enable_http_proxy", 0),
    # A channel that is opened again must not take over the connection of the one before.
    ("grpc.use_local_subchannel_pool", 1),
)


class RemoteSegmenter:
    """Segments by a model server over gRPC. A context manager.

    Nothing is sent before the first request.

    Args:
        server: "host:port" of the gRPC port.
        model_name: The name the model is served under.
        version: The version to ask, the latest if None.
        label: The label of the version to ask, such as "stable", in place of its number.
        timeout_s: Seconds a request may take, with its retries.
        credentials: For a server that speaks TLS; None: nothing is encrypted.
        wire: How the images of `submit` travel.
        confidence: Whether `submit` answers the confidence, too; only with raw images.

    Raises:
        ConfigError: The address has no port, version and label are both given, the credentials
            cannot be used, or the confidence is wanted of a JPEG.

    Example:
        with RemoteSegmenter("127.0.0.1:8500") as segmenter:
            masks = segmenter.segment(images)
    """

    def __init__(
        self,
        server: str,
        model_name: str = contract.DEFAULT_MODEL_NAME,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float = 30.0,
        credentials: Credentials | None = None,
        wire: WireFormat = RAW,
        confidence: bool = False,
    ) -> None:
        if not ADDRESS.fullmatch(server):
            raise ConfigError(
                f"the server address is '{server}'",
                expected="host:port, as in 127.0.0.1:8500",
                next_step="correct --server",
            )
        if version is not None and label is not None:
            raise ConfigError(
                f"version {version} and the label '{label}' are both given", expected="one of them"
            )
        if confidence and wire != RAW:
            raise ConfigError(
                f"the confidence is wanted, and images travel as {wire}",
                expected="raw images: a JPEG is answered by the classes alone",
                next_step="--wire raw, or an effect without confidence",
            )
        self.wire, self._confidence = wire, confidence
        self._server, self._model_name = server, model_name
        self._version, self._label = version, label
        self._timeout_s = timeout_s
        self._credentials = credentials
        self._open()
        self._timeouts = 0  # in a row
        self._opened_at = time.monotonic()
        self._metadata: Metadata | None = None
        self._lock = threading.Lock()

    def segment(self, images: Image) -> Mask:
        """The masks of a batch, see `Segmenter`. They travel raw."""
        resized = resize_batch(images, self.describe().image_size)
        request = self._encode(contract.DEFAULT_SIGNATURE, {contract.IMAGE: resized})
        outputs = decode_response(self._call(request))
        try:
            return class_map(outputs, contract.CLASS_IDS, resized.shape[:3])
        except ValueError as err:
            raise self._mismatch(str(err)) from err

    def submit(self, image: Image, *, timeout_s: float | None = None) -> Future[Answer]:
        """Starts on one image, see `Segmenter`."""
        resized = resize_batch(image[np.newaxis], self.describe().image_size)[0]
        signature = "confidence" if self._confidence else self.wire.signature
        request = self._encode(signature, self.wire.inputs(resized))
        size = (resized.shape[0], resized.shape[1])
        future: Future[Answer] = Future()
        call = self._predict.future(request, timeout=timeout_s or self._timeout_s)

        def finish(done: Any) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                answer = self._answer(done.result(), size, len(request))
                self._timeouts = 0
                future.set_result(answer)
            except grpc.RpcError as err:
                self._count_timeout(err)
                future.set_exception(self._explain(err))
            except Exception as err:  # whoever waits for the answer raises it
                future.set_exception(err)

        call.add_done_callback(finish)
        return future

    def describe(self) -> Metadata:
        """What the served model says of itself; asked once.

        Raises:
            ServerError: The model cannot be asked; the subclass says why.
            ContractMismatch: It is no model of segkit's.
        """
        with self._lock:
            if self._metadata is None:
                query = {contract.QUERY: np.array([b""], object)}
                reply = decode_response(self._call(self._encode("describe", query)))
                record = reply.get(contract.METADATA)
                if record is None or record.size != 1 or record.dtype != object:
                    raise self._mismatch("`describe` gives no record of the model")
                source = f"the model '{self._model_name}' at {self._server}"
                self._metadata = Metadata.from_json(record.item(), source=source)
            return self._metadata

    def is_loading(self) -> bool:
        """Whether the server says that a version of the model is being loaded."""
        return bool(self._versions(self._model_name, START, LOADING))

    def close(self) -> None:
        """Closes the connection; requests under way fail."""
        self._channel.close()

    def _open(self) -> None:
        if self._credentials is None:
            self._channel = grpc.insecure_channel(self._server, options=CHANNEL_OPTIONS)
        else:
            self._channel = grpc.secure_channel(
                self._server, self._credentials.to_grpc(), options=CHANNEL_OPTIONS
            )
        # Replies stay bytes here, so that a bad one is our error and not gRPC's INTERNAL.
        self._predict = self._channel.unary_unary(PREDICT)
        self._status = self._channel.unary_unary(
            GET_MODEL_STATUS,
            request_serializer=wire_pb2.GetModelStatusRequest.SerializeToString,
            response_deserializer=wire_pb2.GetModelStatusResponse.FromString,
        )

    def _count_timeout(self, err: Any) -> None:
        """Opens the connection again after many requests in a row without an answer."""
        if err.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            self._timeouts = 0
            return
        with self._lock:
            self._timeouts += 1
            now = time.monotonic()
            silent = self._timeouts >= REOPEN_AFTER_TIMEOUTS
            if not silent or now - self._opened_at < REOPEN_PAUSE_S:
                return
            self._timeouts, self._opened_at = 0, now
            before = self._channel
            self._open()
        # Later, when what was sent on it has ended, and not by a thread of the channel itself.
        closing = threading.Timer(self._timeout_s, before.close)
        closing.daemon = True
        closing.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _answer(self, reply: bytes, size: tuple[int, int], sent_bytes: int) -> Answer:
        outputs = decode_response(reply)
        confidence = None
        try:
            mask = self.wire.mask(outputs, size)
            if self._confidence:
                confidence = class_map(outputs, contract.CONFIDENCE, (1, *size))[0]
        except ValueError as err:
            raise self._mismatch(str(err)) from err
        return Answer(mask, confidence, sent_bytes, len(reply))

    def _encode(self, signature: str, inputs: dict[str, Array]) -> bytes:
        return encode_request(
            inputs,
            model_name=self._model_name,
            signature=signature,
            version=self._version,
            label=self._label,
        )

    def _call(self, request: bytes) -> bytes:
        try:
            reply: bytes = self._predict(request, timeout=self._timeout_s)
        except grpc.RpcError as err:
            raise self._explain(err) from err
        return reply

    def _mismatch(self, problem: str) -> ContractMismatch:
        return ContractMismatch(
            f"{problem} (model '{self._model_name}' at {self._server})",
            expected="a model that keeps to segkit's serving contract",
            next_step="serve a version made by `python -m segkit export`",
        )

    def _error(self, code: str, message: str) -> ServerError:
        fault = None
        if code == "UNAVAILABLE" and self._metadata is None:  # never reached yet
            fault = find_fault(self._server, self._credentials)
        return server_error(code, message, server=self._server, model=self._model_name, fault=fault)

    def _explain(self, err: Any) -> ServerError:
        """The error of a failed call."""
        if self._label is not None and UNKNOWN_LABEL in (err.details() or ""):
            return ModelNotFound(
                f"the model server at {self._server} has no version of '{self._model_name}' "
                f"labelled '{self._label}'",
                expected="a label that was given to a version",
                next_step="python -m segkit rollout gives 'stable' and 'canary'; or leave out the "
                "label for the newest version",
            )
        error = self._error(err.code().name, err.details() or "")
        if isinstance(error, ModelNotFound):
            error.expected = self._what_is_served(err.trailing_metadata() or ())
        return error

    def _what_is_served(self, trailing_metadata: Any) -> str:
        """What the server has instead, as far as it can be known.

        tensorflow/serving does not list its models over gRPC; the embedded server adds their names
        to the refusal. Otherwise the likely names are tried.
        """
        versions = self._versions(self._model_name, AVAILABLE)
        if versions:
            return f"one of the versions of '{self._model_name}': {_join(versions)}"
        for key, value in trailing_metadata:
            if key == SERVED_MODELS_KEY and value:
                return f"one of the models served there: {', '.join(value.split(','))}"
        likely = contract.DEFAULT_MODEL_NAME
        if likely != self._model_name and self._versions(likely, AVAILABLE):
            return f"'{likely}', which is served there (the server does not list its models)"
        return "a model served there; the server does not list them, see its model configuration"

    def _versions(self, model_name: str, *states: int) -> list[int]:
        request = wire_pb2.GetModelStatusRequest()
        request.model_spec.name = model_name
        try:
            reply = self._status(request, timeout=STATUS_TIMEOUT_S)
        except grpc.RpcError:
            return []
        return sorted(x.version for x in reply.model_version_status if x.state in states)


def _join(versions: list[int]) -> str:
    return ", ".join(map(str, versions))
