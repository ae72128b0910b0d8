"""The tf.Examples in the body of a classify or a regress request.

No signature here takes them, see `segkit.serving.inference`, but TensorFlow Serving reads them
before it looks for the model, so what is wrong with them comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segkit.engines import Code, StatusError
from segkit.serving.rest.json_array import decode_base64, is_base64, type_name
from segkit.serving.rest.json_text import echo

__all__ = ["check_examples"]


def check_examples(document: Mapping[str, Any]) -> None:
    """Checks the body of a classify or a regress request.

    Raises:
        StatusError: It has no examples, or one that cannot be a tf.Example.
    """
    if "context" in document:
        _check_example(document["context"])
    examples = document.get("examples")
    if "examples" not in document:
        # Of regress as well.
        problem = "When method is classify, key 'examples' is expected and was not found"
    elif not isinstance(examples, list):
        problem = "Expecting 'examples' value to be an list/array"
    elif not examples:
        problem = "'examples' value is an empty array"
    else:
        for example in examples:
            _check_example(example)
        return
    raise _invalid(f"JSON Value: {echo(document)} {problem}")


def _check_example(example: Any) -> None:
    if not isinstance(example, dict):
        raise _invalid(f"Example must be JSON object but got JSON {type_name(example)}")
    for name, value in example.items():
        kind = ""
        for item in value if isinstance(value, list) else [value]:
            item_kind = _feature_kind(item)
            if not item_kind:
                raise _invalid(
                    f"Feature: {name} has element with unexpected JSON type: {type_name(item)}"
                )
            if kind not in ("", item_kind):
                raise _invalid(f"Unexpected element type in feature: {name} expecting type: {kind}")
            kind = item_kind
            if isinstance(item, dict):
                decode_base64(item)
            if item_kind == "int64" and item >= 2**63:
                raise _invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")


def _feature_kind(item: Any) -> str:
    """Which of a tf.Example's lists a value goes to; "" where to none."""
    if isinstance(item, bool):
        return "int64"
    if isinstance(item, int):
        return "int64" if -(2**63) <= item < 2**64 else "float"
    if isinstance(item, float):
        return "float"
    return "bytes" if isinstance(item, str) or is_base64(item) else ""


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
