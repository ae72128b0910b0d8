"""What Predict means on one loaded version: checks, run, reply; in TensorFlow Serving's words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy.typing as npt
from tensorflow_serving.apis import model_pb2

from segkit.contract import DEFAULT_SIGNATURE
from segkit.engines import Code, StatusError
from segkit.serving.servable import Servable
from segkit.serving.wire import decode_tensor, encode_response

__all__ = ["predict"]


def predict(servable: Servable, request: Any, *, timeout_s: float | None = None) -> bytes:
    """Answers a PredictRequest.

    Args:
        servable: The version that its model_spec means.
        request: A tensorflow.serving.PredictRequest.
        timeout_s: Seconds until its deadline, or None.

    Returns:
        The bytes of the PredictResponse.

    Raises:
        StatusError: The request does not fit the signature, or its run failed.
    """
    signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    if signature_name not in servable.engine.signatures:
        raise StatusError(
            Code.FAILED_PRECONDITION, f'Serving signature key "{signature_name}" not found.'
        )
    signature = servable.signature_defs[signature_name]
    inputs = _read_inputs(signature, request)
    outputs = _wanted_outputs(signature, request.output_filter)
    results = servable.run(signature_name, inputs, outputs=outputs, timeout_s=timeout_s)
    model_spec = model_pb2.ModelSpec(name=request.model_spec.name, signature_name=signature_name)
    model_spec.version.value = servable.version
    return encode_response(results, model_spec)


def _read_inputs(signature: Any, request: Any) -> dict[str, npt.NDArray[Any]]:
    required, given = set(signature.inputs), set(request.inputs)
    if len(given) > len(required) or (len(given) < len(required) and not signature.defaults):
        raise _invalid(
            f"input size does not match signature: {len(given)}!={len(required)} "
            f"len({_set(given)}) != len({_set(required)}). "
            f"Sent extra: {_set(given - required)}. "
            f"Missing but required: {_set(required - given)}."
        )
    inputs = {}
    for name in sorted(required):
        if name in given:
            proto = request.inputs[name]
        elif name in signature.defaults:
            proto = signature.defaults[name]
        else:
            raise _invalid(
                f"Signature input alias: {name}(feed name: {signature.inputs[name].name}) "
                "not found in request and no default value provided. "
                f"Inputs expected to be in the request {_set(given)}, "
                f"or default input alias set: {','.join(sorted(signature.defaults))}"
            )
        try:
            inputs[name] = decode_tensor(proto)
        except ValueError as err:
            raise _invalid(f"tensor parsing error: {name}") from err
    if given - required:
        used, sent = (",".join(sorted(names)) for names in (given & required, given))
        raise _invalid(
            f"Inputs contains invalid name. Used request inputs: {used}, request input: {sent}"
        )
    return inputs


def _wanted_outputs(signature: Any, output_filter: Iterable[str]) -> list[str]:
    wanted: list[str] = []
    for name in output_filter:
        if name not in signature.outputs:
            raise _invalid(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {_set(signature.outputs)}."
            )
        if name in wanted:
            raise _invalid(f"duplicate output tensor alias: {name}")
        wanted.append(name)
    return wanted or list(signature.outputs)


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
