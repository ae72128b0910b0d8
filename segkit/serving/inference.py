"""Classify, Regress and MultiInference, as TensorFlow Serving answers them for images.

They take tf.Examples for signatures of their own kind, with an input named "inputs". No signature
of segkit is of that kind, so what is here is how such a request is refused, in that server's words
and order (servables/tensorflow/classifier.cc, regressor.cc, multi_inference.cc). A model that has
such a signature all the same is refused as well: this server runs images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format

from segkit.contract import DEFAULT_SIGNATURE
from segkit.engines import Code, StatusError
from segkit.serving.servable import Servable

__all__ = ["CLASSIFY", "REGRESS", "refuse_inference", "refuse_multi_inference"]


@dataclass(frozen=True)
class _Kind:
    """A kind of signature.

    Args:
        noun: What its messages call it.
        method_name: The method_name of such signatures.
        outputs: The names of its outputs, of which one is enough.
    """

    noun: str
    method_name: str
    outputs: tuple[str, ...]


CLASSIFY = _Kind("classification", "tensorflow/serving/classify", ("classes", "scores"))
REGRESS = _Kind("regression", "tensorflow/serving/regress", ("outputs",))
KINDS: Mapping[str, _Kind] = {kind.method_name: kind for kind in (CLASSIFY, REGRESS)}
INPUT = "inputs"


def refuse_inference(
    servable: Servable, signature_name: str, kind: _Kind, *, check_method_name: bool = False
) -> StatusError:
    """Why a Classify or Regress request cannot be answered.

    Args:
        servable: The version that it asks.
        signature_name: The signature; "" for the default one.
        kind: What is asked for.
        check_method_name: Whether the signature's method_name decides, not its tensors
            (--enable_signature_method_name_check).
    """
    name = signature_name or DEFAULT_SIGNATURE
    if name not in servable.signature_defs:
        return _invalid(f"No signature was found with the name: {name}")
    return _refuse(servable.signature_defs[name], kind, check_method_name)


def refuse_multi_inference(
    servable: Servable, tasks: Sequence[Any], *, check_method_name: bool = False
) -> StatusError:
    """Why a MultiInference request cannot be answered.

    Args:
        servable: The version that its first task asks.
        tasks: Its tensorflow.serving.InferenceTask messages.
        check_method_name: See `refuse_inference`.
    """
    model = ""
    seen: set[str] = set()
    for task in tasks:
        if not task.model_spec.name:
            return _invalid("Found ModelSpec with an empty model name.")
        model = model or task.model_spec.name
        if model != task.model_spec.name:
            return _invalid(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            return _invalid(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        if name not in servable.signature_defs:
            return _invalid(f"Requested signature not found in model graph: {name}")
        if task.method_name not in KINDS:
            return StatusError(
                Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
            )
        return _refuse(servable.signature_defs[name], KINDS[task.method_name], check_method_name)
    return _invalid("Input is empty.")


def _refuse(signature: Any, kind: _Kind, check_method_name: bool) -> StatusError:
    if check_method_name and signature.method_name != kind.method_name:
        return _invalid(
            f"Expected {kind.noun} signature method_name to be {kind.method_name}. "
            f"Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        return _invalid("Expected one input Tensor.")
    if len(signature.outputs) > len(kind.outputs):
        if kind is REGRESS:
            return _invalid("Expected one output Tensor.")
        return _invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    text = text_format.MessageToString(signature)
    if INPUT not in signature.inputs:
        return _invalid(f"No {kind.noun} inputs found in SignatureDef: {text}")
    if not set(kind.outputs) & set(signature.outputs):
        if kind is REGRESS:
            return _invalid(f"No regression outputs found in SignatureDef: {text}")
        return _invalid(
            "Expected classification signature outputs to contain at least one of "
            f'"classes" or "scores". Signature was: {text}'
        )
    return StatusError(
        Code.UNIMPLEMENTED, f"the embedded server runs no {kind.noun} signatures, only Predict"
    )


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
