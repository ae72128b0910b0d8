"""The methods of PredictionService and ModelService, from request bytes to reply bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from segkit.engines import Code, StatusError
from segkit.serving.inference import CLASSIFY, REGRESS, refuse_inference, refuse_multi_inference
from segkit.serving.metrics import Metrics
from segkit.serving.models import Models
from segkit.serving.predict import predict

__all__ = ["Method", "ModelServices"]

SIGNATURE_DEF = "signature_def"

# Request bytes and seconds until the deadline -> reply bytes.
Method = Callable[[bytes, float | None], bytes]


class ModelServices:
    """Answers requests about the served models.

    Args:
        models: What is served.
        metrics: What is counted.
        check_method_name: Whether a signature's method_name has to be that of the method
            (--enable_signature_method_name_check).
    """

    def __init__(
        self, models: Models, metrics: Metrics, *, check_method_name: bool = False
    ) -> None:
        self.models = models
        self._metrics = metrics
        self._check_method_name = check_method_name
        prediction, model = (
            "/tensorflow.serving.PredictionService",
            "/tensorflow.serving.ModelService",
        )
        self.methods: Mapping[str, Method] = {
            f"{prediction}/Predict": self.predict,
            f"{prediction}/Classify": self.classify,
            f"{prediction}/Regress": self.regress,
            f"{prediction}/MultiInference": self.multi_inference,
            f"{prediction}/GetModelMetadata": self.get_model_metadata,
            f"{model}/GetModelStatus": self.get_model_status,
            f"{model}/HandleReloadConfigRequest": self.handle_reload_config,
        }

    def observe(self, model: str, api: str, entrypoint: str, code: Code, seconds: float) -> None:
        """Counts a request, see `Metrics.request`; not for names that nobody serves.

        Such names come from clients, and without end.
        """
        if model in self.models.names:
            self._metrics.request(model, api, entrypoint, code, seconds)

    def predict(self, raw: bytes, timeout_s: float | None) -> bytes:
        """Answers a PredictRequest."""

        def answer(request: Any) -> bytes:
            with self.models.hold(request.model_spec) as servable:
                return predict(servable, request, timeout_s=timeout_s)

        return self._counted("Predict", _parse(predict_pb2.PredictRequest, raw), answer)

    def classify(self, raw: bytes, timeout_s: float | None) -> bytes:
        """Refuses a ClassificationRequest."""
        request = _parse(classification_pb2.ClassificationRequest, raw)
        return self._counted("Classify", request, lambda request: self._refuse(request, CLASSIFY))

    def regress(self, raw: bytes, timeout_s: float | None) -> bytes:
        """Refuses a RegressionRequest."""
        request = _parse(regression_pb2.RegressionRequest, raw)
        return self._counted("Regress", request, lambda request: self._refuse(request, REGRESS))

    def multi_inference(self, raw: bytes, timeout_s: float | None) -> bytes:
        """Refuses a MultiInferenceRequest."""
        tasks = _parse(inference_pb2.MultiInferenceRequest, raw).tasks
        first = tasks[0].model_spec if tasks else inference_pb2.InferenceTask().model_spec
        with self.models.hold(first) as servable:
            raise refuse_multi_inference(servable, tasks, check_method_name=self._check_method_name)

    def get_model_metadata(self, raw: bytes, timeout_s: float | None) -> bytes:
        """Answers a GetModelMetadataRequest."""
        request = _parse(get_model_metadata_pb2.GetModelMetadataRequest, raw)
        _check_has_model_spec(request)
        response = self.model_metadata(request.model_spec, request.metadata_field)
        return bytes(response.SerializeToString())

    def model_metadata(self, spec: Any, fields: Sequence[str]) -> Any:
        """The GetModelMetadataResponse of the version that a ModelSpec means.

        Raises:
            StatusError: There is no such version, or another field than SIGNATURE_DEF is wanted.
        """
        if not fields:
            raise _invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in fields:
            if field != SIGNATURE_DEF:
                raise _invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self.models.hold(spec) as servable:
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, signature in servable.signature_defs.items():
                signatures.signature_def[name].CopyFrom(signature)
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response

    def get_model_status(self, raw: bytes, timeout_s: float | None) -> bytes:
        """Answers a GetModelStatusRequest."""
        request = _parse(get_model_status_pb2.GetModelStatusRequest, raw)
        _check_has_model_spec(request)
        return bytes(self.model_status(request.model_spec).SerializeToString())

    def model_status(self, spec: Any) -> Any:
        """The GetModelStatusResponse of a ModelSpec: every version, or the one asked for.

        Raises:
            StatusError: There is none. Labels are passed over.
        """
        statuses = self.models.statuses(spec.name)
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
        return response

    def handle_reload_config(self, raw: bytes, timeout_s: float | None) -> bytes:
        """Answers a ReloadConfigRequest, with the increase of the metrics that it names."""
        request = _parse(model_management_pb2.ReloadConfigRequest, raw)
        before = {name: self._metrics.value(name) for name in request.metric_names}
        if request.config.WhichOneof("config") != "model_config_list":
            raise _invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        self.models.reload(request.config.model_config_list, timeout_s=timeout_s)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        for name, value in before.items():
            response.metric.add(name=name, int64_value_increase=self._metrics.value(name) - value)
        return bytes(response.SerializeToString())

    def _refuse(self, request: Any, kind: Any) -> bytes:
        with self.models.hold(request.model_spec) as servable:
            raise refuse_inference(
                servable,
                request.model_spec.signature_name,
                kind,
                check_method_name=self._check_method_name,
            )

    def _counted(self, api: str, request: Any, answer: Callable[[Any], bytes]) -> bytes:
        begin = time.perf_counter()
        code = Code.INTERNAL
        try:
            _check_has_model_spec(request)
            reply = answer(request)
            code = Code.OK
            return reply
        except StatusError as err:
            code = err.code
            raise
        finally:
            seconds = time.perf_counter() - begin
            self.observe(request.model_spec.name, api, "GRPC", code, seconds)


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
