"""ModelControl: a model server as whoever runs it sees it, over TensorFlow Serving's API alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Self

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from segkit.client import Credentials
from segkit.client.failures import server_error
from segkit.client.handshake import find_fault
from segkit.contract import SERVED_MODELS_KEY
from segkit.engines import Code, StatusError
from segkit.errors import ConfigError, ModelNotFound
from segkit.serving.versions import State, VersionStatus

__all__ = ["ModelControl"]

TIMEOUT_S = 30.0  # a reload of known models returns at once; versions load on their own time
OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # one meant for web pages answers nonsense
    ("grpc.max_reconnect_backoff_ms", 1000),
)
SIGNATURE_DEF = "signature_def"
NOBODY = "segkit.rollout asks for a model that nobody serves"
# The server's words. A label may stand at a version that is not loaded: the number is in them.
NO_SUCH_LABEL = ("Unrecognized servable version label", "Model labels does not init yet")
OF_VERSION = re.compile(r"Specific\(.*, (\d+)\)")
CONNECTION = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)


class ModelControl:
    """Statuses, labels, signatures and configurations. A context manager.

    Every method raises a ServerError where the server cannot be asked; the subclass says why.

    Args:
        server: "host:port" of the gRPC port.
        credentials: For a server that speaks TLS; None: nothing is encrypted.
        timeout_s: Seconds that an answer may take.
    """

    def __init__(
        self, server: str, *, credentials: Credentials | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.server = server
        self._timeout_s = timeout_s
        self._credentials = credentials
        self._reached = False
        if credentials is None:
            self._channel = grpc.insecure_channel(server, options=OPTIONS)
        else:
            self._channel = grpc.secure_channel(server, credentials.to_grpc(), options=OPTIONS)
        models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._status, self._reload = models.GetModelStatus, models.HandleReloadConfigRequest
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._metadata = predictions.GetModelMetadata

    def statuses(self, model: str) -> dict[int, VersionStatus]:
        """Every version that the server knows of a model; none of a model that it does not have."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        try:
            reply = self._status(request, timeout=self._timeout_s)
        except grpc.RpcError as err:
            if err.code() == grpc.StatusCode.NOT_FOUND:
                return {}
            raise self._explain(err, model) from err
        self._reached = True
        return {x.version: _status(x) for x in reply.model_version_status}

    def labeled(self, model: str, label: str) -> int | None:
        """The version that a label stands at, available or not; None: it is no label there."""
        try:
            reply = self._ask_metadata(model, lambda spec: setattr(spec, "version_label", label))
        except grpc.RpcError as err:
            words = err.details() or ""
            if any(sign in words for sign in NO_SUCH_LABEL):
                return None
            if err.code() == grpc.StatusCode.NOT_FOUND and (found := OF_VERSION.search(words)):
                return int(found[1])
            raise self._explain(err, model) from err
        return int(reply.model_spec.version.value)

    def signatures(self, model: str, version: int) -> Mapping[str, Any]:
        """Signature name -> tensorflow.SignatureDef of an available version."""
        try:
            reply = self._ask_metadata(model, lambda spec: setattr(spec.version, "value", version))
        except grpc.RpcError as err:
            raise self._explain(err, model) from err
        signatures = get_model_metadata_pb2.SignatureDefMap()
        reply.metadata[SIGNATURE_DEF].Unpack(signatures)
        return dict(signatures.signature_def)

    def models(self) -> list[str] | None:
        """What the server serves, where it says so: segkit's does, tensorflow/serving has no way.

        Returns:
            Names, or None.
        """
        try:
            self._ask_metadata(NOBODY, lambda spec: None)
        except grpc.RpcError as err:
            if err.code() != grpc.StatusCode.NOT_FOUND:
                raise self._explain(err, NOBODY) from err
            told = dict(err.trailing_metadata() or ()).get(SERVED_MODELS_KEY)
            return None if told is None else sorted(filter(None, str(told).split(",")))
        return None

    def reload(self, config: Any, *, model: str) -> None:
        """Has the server serve by another configuration, which replaces the whole one before.

        Versions of models that it has already load on their own time.

        Args:
            config: A tensorflow.serving.ModelServerConfig.
            model: The one that it is about, for the message.

        Raises:
            ConfigError: The server refuses it. It may have taken over a part of it all the same.
        """
        request = model_management_pb2.ReloadConfigRequest(config=config)
        try:
            reply = self._reload(request, timeout=self._timeout_s)
        except grpc.RpcError as err:
            if err.code() in CONNECTION:
                raise self._explain(err, model) from err
            raise self._refused(err.code().name, err.details() or "") from err
        if reply.status.error_code:
            raise self._refused(Code(reply.status.error_code).name, reply.status.error_message)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask_metadata(self, model: str, choose: Callable[[Any], None]) -> Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = model
        choose(request.model_spec)
        request.metadata_field.append(SIGNATURE_DEF)
        return self._metadata(request, timeout=self._timeout_s)

    def _explain(self, err: Any, model: str) -> Exception:
        code = err.code().name
        fault = None
        if code == "UNAVAILABLE" and not self._reached:
            fault = find_fault(self.server, self._credentials)
        error = server_error(
            code, err.details() or "", server=self.server, model=model, fault=fault
        )
        if isinstance(error, ModelNotFound):
            error.next_step = "see what is loaded there, then run the same command again"
        return error

    def _refused(self, code: str, message: str) -> ConfigError:
        return ConfigError(
            f"the model server at {self.server} refuses the configuration: {message} ({code})",
            expected="a configuration that it takes, with labels at available versions alone",
            next_step="correct the configuration file, or restart the server with it",
        )


def _status(entry: Any) -> VersionStatus:
    code = entry.status.error_code
    error = StatusError(Code(code), entry.status.error_message) if code else None
    return VersionStatus(entry.version, State(entry.state), error)
