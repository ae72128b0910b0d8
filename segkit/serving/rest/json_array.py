"""One JSON value as an array, by TensorFlow Serving's rules and in its words.

An image is a million numbers: lists are flattened and checked as a whole, level by level, and only
where something is wrong is the place searched for, to name it as TensorFlow Serving would.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from segkit.engines import Code, StatusError
from segkit.serving.rest.json_text import echo, encode_text, to_double

__all__ = [
    "decode_base64",
    "dtype_name",
    "from_integers",
    "is_base64",
    "read_array",
    "stack_values",
    "type_name",
]

Array = npt.NDArray[Any]

MAX_RANK = 31  # NumPy's, less the batch

# The integers that a dtype takes; what is in range of the list but not of the dtype wraps.
_INT32 = (-(2**31), 2**31 - 1)
_INTEGERS: Mapping[int, tuple[int, int]] = {
    types_pb2.DT_INT32: _INT32,
    types_pb2.DT_INT16: _INT32,
    types_pb2.DT_INT8: _INT32,
    types_pb2.DT_UINT8: _INT32,
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
}
_DECIMALS = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)
_DTYPE_NAMES = {types_pb2.DT_FLOAT: "float", types_pb2.DT_DOUBLE: "double"}
_DTYPE_NAMES[types_pb2.DT_HALF] = "half"
_TYPE_NAMES = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
_TYPE_NAMES[type(None)] = "Null"
_BASE64 = re.compile(r"([A-Za-z0-9+/]*)[=.]{0,2}")
_WHITESPACE = re.compile(r"[ \t\n\v\f\r]+")
_READABLE = {*_INTEGERS, *_DECIMALS, types_pb2.DT_STRING, types_pb2.DT_BOOL}


def read_array(value: Any, name: str, dtype: int) -> Array:
    """Reads the tensor of an input.

    Args:
        value: What stands for it in the body.
        name: The input's name.
        dtype: A value of tensorflow.DataType.

    Raises:
        StatusError: It is no tensor of that dtype.
    """
    shape = _dense_shape(value)
    if len(shape) > MAX_RANK:
        raise _invalid(f"tensor parsing error: {name}")
    array = _convert(value, shape, dtype)
    if array is None:
        raise _find_error(value, 0, shape, dtype)
    return array


def stack_values(values: list[Any], dtype: int) -> Array | None:
    """Values of the shape of the first as one tensor, if they can be."""
    shape = (len(values), *_dense_shape(values[0]))
    return _convert(values, shape, dtype) if len(shape) <= MAX_RANK else None


def from_integers(numbers: Array, dtype: int) -> Array | None:
    """Integers from 0 to 2^31 - 1 as that dtype; None if it takes no integers."""
    if dtype not in _INTEGERS and dtype not in _DECIMALS:
        return None
    return numbers.astype(tf.dtypes.as_dtype(dtype).as_numpy_dtype)


def is_base64(value: Any) -> bool:
    """Whether a value stands for bytes: {"b64": "..."}."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def decode_base64(value: Mapping[str, Any]) -> bytes:
    """The bytes of a value that stands for some.

    Raises:
        StatusError: It stands for none.
    """
    if not is_base64(value):
        raise _invalid(f"JSON Value: {echo(value)} not formatted correctly for base64 data")
    text = _WHITESPACE.sub("", value["b64"])
    found = _BASE64.fullmatch(text)
    padding = -len(found[1]) % 4 if found else 3
    if found is None or padding == 3 or len(text) - len(found[1]) not in (0, padding):
        raise _invalid("Unable to base64 decode")
    return base64.b64decode(found[1] + "=" * padding)


def dtype_name(dtype: int) -> str:
    """TensorFlow's name of a dtype in messages."""
    return _DTYPE_NAMES.get(dtype) or str(tf.dtypes.as_dtype(dtype).name)


def type_name(value: Any) -> str:
    """RapidJSON's name of a value's type."""
    return str(value) if isinstance(value, bool) else _TYPE_NAMES[type(value)]


def _dense_shape(value: Any) -> tuple[int, ...]:
    """The lengths of a list, of its first list, and so on."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _convert(value: Any, shape: tuple[int, ...], dtype: int) -> Array | None:
    """A value of that shape as an array; None where any part of it does not fit."""
    leaves = [value]
    for size in shape:
        if set(map(type, leaves)) - {list} or set(map(len, leaves)) - {size}:
            return None
        leaves = list(chain.from_iterable(leaves))
    flat = _flat_array(leaves, dtype)
    return None if flat is None else flat.reshape(shape)


def _flat_array(leaves: list[Any], dtype: int) -> Array | None:
    types = set(map(type, leaves))
    numpy_dtype = tf.dtypes.as_dtype(dtype).as_numpy_dtype
    if dtype in _INTEGERS and types <= {int}:
        return _integers(leaves, dtype, numpy_dtype)
    if dtype in _DECIMALS and types <= {int, float}:
        return _decimals(leaves, numpy_dtype)
    if dtype == types_pb2.DT_STRING and types <= {str, dict}:
        return _strings(leaves)
    if not leaves or (dtype == types_pb2.DT_BOOL and types == {bool}):
        return np.array(leaves, numpy_dtype)
    return None


def _integers(leaves: list[int], dtype: int, numpy_dtype: Any) -> Array | None:
    if dtype == types_pb2.DT_UINT8:
        try:
            return np.frombuffer(bytes(leaves), np.uint8)  # much the fastest
        except ValueError:
            pass  # some are out of range, which may be well
    least, most = _INTEGERS[dtype]
    if leaves and (min(leaves) < least or max(leaves) > most):
        return None
    wide = np.uint64 if most >= 2**63 else np.int64
    return np.fromiter(leaves, wide, len(leaves)).astype(numpy_dtype)


def _decimals(leaves: list[float], numpy_dtype: Any) -> Array:
    try:
        doubles = np.fromiter(leaves, np.float64, len(leaves))
    except OverflowError:  # an integer beyond the range of a double
        doubles = np.array([to_double(value) for value in leaves])
    with np.errstate(over="ignore"):  # what is beyond float32 is an infinity
        return doubles.astype(numpy_dtype)


def _strings(leaves: list[Any]) -> Array | None:
    values = np.empty(len(leaves), object)
    try:
        values[:] = [
            encode_text(leaf) if isinstance(leaf, str) else decode_base64(leaf) for leaf in leaves
        ]
    except StatusError:
        return None
    return values


def _find_error(value: Any, level: int, shape: tuple[int, ...], dtype: int) -> StatusError:
    """What is wrong with a value that does not convert, at the first place that is wrong."""
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            return _invalid(
                f"JSON Value: {echo(value)} found at incorrect level: {level + 1} "
                f"in the JSON DOM. Expected at level: {rank}"
            )
        return _leaf_error(value, dtype)
    if level >= rank:
        return _invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        return _invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    wrong = next(item for item in value if _convert(item, shape[level + 1 :], dtype) is None)
    return _find_error(wrong, level + 1, shape, dtype)


def _leaf_error(value: Any, dtype: int) -> StatusError:
    if isinstance(value, dict) and dtype == types_pb2.DT_STRING:
        try:
            decode_base64(value)
        except StatusError as err:
            return err
    expected = dtype_name(dtype)
    if isinstance(value, dict) or dtype in _READABLE:
        return _invalid(
            f"JSON Value: {echo(value)} Type: {type_name(value)} "
            f"is not of expected type: {expected}"
        )
    return StatusError(
        Code.UNIMPLEMENTED, f"Conversion of JSON Value: {echo(value)} to type: {expected}"
    )


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
