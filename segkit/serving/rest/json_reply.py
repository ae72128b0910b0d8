"""The JSON that the REST API answers with, in the layout of TensorFlow Serving's writer.

Predictions have each value on one line, outputs have each number on its own: what RapidJSON's
PrettyWriter makes of the two formats. Text that is not UTF-8 is written as it is: an output of
bytes is for a name that ends in "_bytes", which makes it base64.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from segkit.engines import Code, StatusError
from segkit.serving.rest.json_array import dtype_name
from segkit.serving.rest.json_text import decode_text, encode_text, format_decimals, new_line, quote

__all__ = ["error_body", "predict_body"]

Array = npt.NDArray[Any]

BYTES_SUFFIX = "_bytes"
_BYTE_TEXTS = [str(number) for number in range(256)]
_BOOL_TEXTS = ("false", "true")
_WHOLE = {np.dtype(name) for name in ("i1", "u1", "i2", "i4", "u4", "i8", "u8")}


def error_body(message: str) -> bytes:
    """The body of a reply to a request that failed."""
    return encode_text(f'{{{new_line(1)}"error": {quote(message)}{new_line(0)}}}')


def predict_body(outputs: Mapping[str, Array], *, by_row: bool) -> bytes:
    """The body of a reply to a predict request.

    Args:
        outputs: Output name -> values; strings are object arrays of bytes.
        by_row: Whether the request lists instances.

    Raises:
        StatusError: They cannot be written.
    """
    if not outputs:
        raise _invalid("Cannot convert empty tensor map to JSON")
    key, text = ("predictions", _rows(outputs)) if by_row else ("outputs", _columns(outputs))
    return encode_text(f'{{{new_line(1)}"{key}": {text}{new_line(0)}}}')


def _rows(outputs: Mapping[str, Array]) -> str:
    """A list with an item for each instance: its value, or an object of several by name."""
    names = sorted(outputs)
    batch_size = -1
    for name in names:
        shape = outputs[name].shape
        if not shape:
            raise _invalid(f"Tensor name: {name} has no shape information ")
        if batch_size not in (-1, shape[0]):
            raise _invalid(
                f"Tensor name: {name} has inconsistent batch size: {shape[0]} "
                f"expecting: {batch_size}"
            )
        batch_size = shape[0]
    if not batch_size:
        return "[]"
    depth = 2 if len(names) == 1 else 3
    columns = [_items(name, outputs[name], depth, in_lines=False) for name in names]
    if len(names) == 1:
        return f"[{', '.join(columns[0])}{new_line(1)}]"
    keys = [quote(name) for name in names]
    rows = [_object(keys, values, 2) for values in zip(*columns, strict=True)]
    return _list(rows, 1, in_lines=True)


def _columns(outputs: Mapping[str, Array]) -> str:
    """A tensor, or an object of several by name."""
    names = sorted(outputs)
    depth = 1 if len(names) == 1 else 2
    texts = [_items(name, outputs[name][np.newaxis], depth, in_lines=True)[0] for name in names]
    return texts[0] if len(names) == 1 else _object([quote(name) for name in names], texts, 1)


def _items(name: str, array: Array, depth: int, *, in_lines: bool) -> list[str]:
    """The text of each item of a tensor's first dimension.

    Args:
        name: The tensor's name.
        array: Its values.
        depth: How many lists and objects an item is in.
        in_lines: Whether each value has its own line.
    """
    texts = _value_texts(name, array, depth + array.ndim - 1)
    for level in range(array.ndim - 1, 0, -1):
        size, count = array.shape[level], math.prod(array.shape[:level])
        texts = [
            _list(texts[size * index : size * (index + 1)], depth + level - 1, in_lines=in_lines)
            for index in range(count)
        ]
    return texts


def _value_texts(name: str, array: Array, depth: int) -> list[str]:
    flat = np.ravel(array)
    if array.dtype == object:
        if name.endswith(BYTES_SUFFIX):
            return [_object(['"b64"'], [f'"{_base64(value)}"'], depth) for value in flat]
        return [quote(decode_text(value)) for value in flat]
    if array.dtype == np.uint8:
        return [_BYTE_TEXTS[value] for value in flat.tobytes()]
    if array.dtype in _WHOLE:
        return list(map(str, flat.tolist()))
    if array.dtype in (np.float32, np.float64):
        return format_decimals(flat.tolist(), array.dtype.char)
    if array.dtype == bool:
        return [_BOOL_TEXTS[value] for value in flat.tolist()]
    if not flat.size:
        return []
    dtype = dtype_name(tf.dtypes.as_dtype(array.dtype).as_datatype_enum)
    raise _invalid(f"Failed to write JSON value for tensor type: {dtype}")


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _list(texts: Sequence[str], depth: int, *, in_lines: bool) -> str:
    if not texts or not in_lines:
        return f"[{', '.join(texts)}]"
    inner = new_line(depth + 1)
    return f"[{inner}{(',' + inner).join(texts)}{new_line(depth)}]"


def _object(keys: Sequence[str], texts: Sequence[str], depth: int) -> str:
    inner = new_line(depth + 1)
    members = (f"{key}: {text}" for key, text in zip(keys, texts, strict=True))
    return f"{{{inner}{(',' + inner).join(members)}{new_line(depth)}}}"


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
