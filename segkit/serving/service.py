"""The methods of PredictionService and ModelService, from request bytes to reply bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from segkit.engines import Code, StatusError
from segkit.serving.predict import predict
from segkit.serving.servable import Servable
from segkit.serving.versions import VersionManager

__all__ = ["Method", "ModelServices"]

SIGNATURE_DEF = "signature_def"

# Request bytes and seconds until the deadline -> reply bytes.
Method = Callable[[bytes, float | None], bytes]


class ModelServices:
    """Answers requests about the served models.

    Args:
        models: Model name -> its versions.
    """

    def __init__(self, models: Mapping[str, VersionManager]) -> None:
        self._models = models
        self.methods: Mapping[str, Method] = {
            "/tensorflow.serving.PredictionService/Predict": self.predict,
            "/tensorflow.serving.PredictionService/GetModelMetadata": self.get_model_metadata,
            "/tensorflow.serving.ModelService/GetModelStatus": self.get_model_status,
        }

    def predict(self, raw: bytes, timeout_s: float | None) -> bytes:
        """Answers a PredictRequest."""
        request = _parse(predict_pb2.PredictRequest, raw)
        with self._servable(request) as servable:
            return predict(servable, request, timeout_s=timeout_s)

    def get_model_metadata(self, raw: bytes, timeout_s: float | None) -> bytes:
        """Answers a GetModelMetadataRequest: the signatures as saved."""
        request = _parse(get_model_metadata_pb2.GetModelMetadataRequest, raw)
        _check_has_model_spec(request)
        if not request.metadata_field:
            raise _invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise _invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._servable(request) as servable:
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, signature in servable.signature_defs.items():
                signatures.signature_def[name].CopyFrom(signature)
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return bytes(response.SerializeToString())

    def get_model_status(self, raw: bytes, timeout_s: float | None) -> bytes:
        """Answers a GetModelStatusRequest: every version, or the one asked for."""
        request = _parse(get_model_status_pb2.GetModelStatusRequest, raw)
        _check_has_model_spec(request)
        spec = request.model_spec
        model = self._models.get(spec.name)
        statuses = model.statuses() if model else []
        missing = f"any versions of model {spec.name}"
        if spec.HasField("version"):
            statuses = [status for status in statuses if status.number == spec.version.value]
            missing = f"version {spec.version.value} of model {spec.name}"
        if not statuses:
            raise StatusError(Code.NOT_FOUND, f"Could not find {missing}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in statuses:
            entry = response.model_version_status.add(version=status.number, state=status.state)
            entry.status.error_code = status.error.code if status.error else Code.OK
            entry.status.error_message = status.error.message if status.error else ""
        return bytes(response.SerializeToString())

    @contextlib.contextmanager
    def _servable(self, request: Any) -> Iterator[Servable]:
        """Finds the version that a request means and holds it."""
        _check_has_model_spec(request)
        spec = request.model_spec
        if not spec.name:
            raise _invalid("ModelSpec has no name specified.")
        if spec.HasField("version_label"):
            raise _invalid(f"Unrecognized servable version label: {spec.version_label}")
        number = spec.version.value if spec.HasField("version") else None
        wanted = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
        not_found = StatusError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
        if spec.name not in self._models:
            raise not_found
        with self._models[spec.name].acquire(number) as servable:
            if servable is None:
                raise not_found
            yield servable


def _parse(message_type: Any, raw: bytes) -> Any:
    try:
        return message_type.FromString(raw)
    except DecodeError as err:
        raise StatusError(Code.INTERNAL, "") from err


def _check_has_model_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise _invalid("Missing ModelSpec")


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
