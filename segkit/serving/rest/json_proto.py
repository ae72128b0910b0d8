"""Status and metadata as JSON, in the layout of protobuf 3.21's C++ writer.

It indents by one space, ends with a new line, writes every field, those of a oneof last and only
where they are set, and spells "<" and ">" as escapes. Maps are sorted here, where C++ has any
order.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2

__all__ = ["metadata_body", "status_body"]

SIGNATURE_DEF = "signature_def"


def status_body(response: Any) -> bytes:
    """The body of a reply to a status request, from a GetModelStatusResponse."""
    return _text(response).encode()


def metadata_body(response: Any) -> bytes:
    """The body of a reply to a metadata request, from a GetModelMetadataResponse."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata[SIGNATURE_DEF].Unpack(signatures)
    # TensorFlow Serving joins two texts to one, which shows.
    return (
        f'{{\n"model_spec":{_text(response.model_spec)},\n'
        f'"metadata": {{"{SIGNATURE_DEF}": {_text(signatures)}}}\n}}\n'
    ).encode()


def _text(message: Any) -> str:
    plain = json_format.MessageToDict(
        message, including_default_value_fields=True, preserving_proto_field_name=True
    )
    text = json.dumps(_in_order(plain, message.DESCRIPTOR), indent=1, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e") + "\n"


def _in_order(plain: dict[str, Any], descriptor: Any) -> dict[str, Any]:
    fields = sorted(descriptor.fields, key=lambda field: field.containing_oneof is not None)
    return {field.name: _value(plain[field.name], field) for field in fields if field.name in plain}


def _value(plain: Any, field: Any) -> Any:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return {key: _value(plain[key], kind.fields_by_name["value"]) for key in sorted(plain)}
    if isinstance(plain, list):
        return [_item(item, kind) for item in plain]
    return _item(plain, kind)


def _item(plain: Any, kind: Any) -> Any:
    return _in_order(plain, kind) if isinstance(plain, dict) else plain
