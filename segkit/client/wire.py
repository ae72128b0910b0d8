"""The bytes of the wire: numpy -> PredictRequest, PredictResponse -> numpy. No TensorFlow.

tensorflow/serving 2.15 answers numeric tensors as repeated fields, never as `tensor_content`. A
class map comes as `int_val`: packed varints, one byte for each value below 128. Those bytes are
the class map already, so the reply is walked field by field and they are read where they lie;
`tf.make_ndarray` makes 307,200 Python integers of the same 640x480 map.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from segkit.client import wire_pb2
from segkit.errors import ContractMismatch

__all__ = ["decode_response", "encode_request"]

Array = npt.NDArray[Any]

# DataType of TensorFlow's types.proto -> dtype.
STRING = 7
DTYPES: Mapping[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.float64),
    3: np.dtype(np.int32),
    4: np.dtype(np.uint8),
    5: np.dtype(np.int16),
    6: np.dtype(np.int8),
    9: np.dtype(np.int64),
    10: np.dtype(np.bool_),
    17: np.dtype(np.uint16),
    19: np.dtype(np.float16),
    22: np.dtype(np.uint32),
    23: np.dtype(np.uint64),
}
NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
# What shares int_val, and must fit.
WIDE = {np.dtype(kind): np.int32 for kind in ("uint8", "int8", "uint16", "int16")}
# DataType -> the repeated field that holds its values, where it is not int_val.
FIELDS: Mapping[int, str] = {
    1: "float_val",
    2: "double_val",
    9: "int64_val",
    10: "bool_val",
    19: "half_val",
    22: "uint32_val",
    23: "uint64_val",
}

# Wire types and field numbers of the walk.
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
OUTPUTS, KEY, VALUE = 1, 1, 2
DTYPE, TENSOR_SHAPE, TENSOR_CONTENT, INT_VAL = 1, 2, 4, 7


def encode_request(
    inputs: Mapping[str, Array],
    *,
    model_name: str,
    signature: str,
    version: int | None = None,
    label: str | None = None,
    outputs: tuple[str, ...] = (),
) -> bytes:
    """The bytes of a PredictRequest.

    Args:
        inputs: Input name -> array of numbers, or of `bytes` objects for strings.
        model_name: Name of the served model.
        signature: Name of the signature.
        version: The version to ask, the latest if None.
        label: The label of the version to ask, in place of its number.
        outputs: Names of the wanted outputs; all of them if empty.
    """
    request = wire_pb2.PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    elif label is not None:
        request.model_spec.version_label = label
    request.output_filter.extend(outputs)
    for name, array in inputs.items():
        tensor = request.inputs[name]
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        if array.dtype == object:
            tensor.dtype = STRING
            tensor.string_val.extend(array.ravel().tolist())
        else:
            tensor.dtype = NUMBERS[array.dtype]
            tensor.tensor_content = array.tobytes()
    return bytes(request.SerializeToString())


def decode_response(data: bytes) -> dict[str, Array]:
    """The outputs of a PredictResponse, by name.

    Returns:
        Arrays that may be read-only views of `data`. Strings are object arrays of `bytes`.

    Raises:
        ContractMismatch: The bytes are no PredictResponse, or hold a tensor of an unknown kind.
    """
    view = memoryview(data)
    try:
        outputs: dict[str, Array] = {}
        for number, entry in _fields(view):
            if number == OUTPUTS and isinstance(entry, memoryview):
                parts = dict(_fields(entry))
                name, tensor = parts.get(KEY, b""), parts.get(VALUE, memoryview(b""))
                if isinstance(name, int) or isinstance(tensor, int):
                    raise ValueError("a map entry holds a number")
                outputs[bytes(name).decode()] = _decode_tensor(tensor)
        return outputs
    except (ValueError, TypeError, IndexError, MemoryError, DecodeError) as err:
        raise ContractMismatch(
            f"the server's reply of {len(data):,} bytes cannot be read ({err})",
            expected="a PredictResponse of tensorflow/serving",
            next_step="check that the address is that of a model server's gRPC port (8500)",
        ) from err


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of a message: integers, or the bytes of what has a length."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        kind = tag & 7
        value: int | memoryview
        if kind == VARINT:
            value, position = _varint(data, position)
        else:
            if kind == LENGTH_DELIMITED:
                size, position = _varint(data, position)
            elif kind in (FIXED32, FIXED64):
                size = 4 if kind == FIXED32 else 8
            else:
                raise ValueError(f"wire type {kind}")
            if position + size > end:
                raise ValueError("cut short")
            value = data[position : position + size]
            position += size
        yield tag >> 3, value


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """The varint at a position, and the position behind it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _decode_tensor(data: memoryview) -> Array:
    """Reads a class map in place, and any other tensor through the general path."""
    fields: dict[int, int | memoryview] = {}
    for number, value in _fields(data):
        if number in fields:  # repeated and not packed: strings
            return _decode_any_tensor(data)
        fields[number] = value
    shape_field, content = fields.get(TENSOR_SHAPE), fields.get(TENSOR_CONTENT)
    dtype = DTYPES.get(int(fields.get(DTYPE, 0)))
    if dtype is None or not isinstance(shape_field, memoryview):
        return _decode_any_tensor(data)
    shape = _shape(wire_pb2.TensorShapeProto.FromString(bytes(shape_field)))
    if isinstance(content, memoryview):
        return np.frombuffer(content, dtype).reshape(shape)
    packed = fields.get(INT_VAL)
    if dtype == np.uint8 and isinstance(packed, memoryview):
        values = _unpack_uint8(np.frombuffer(packed, np.uint8))
        if values is not None and values.size == math.prod(shape):
            return values.reshape(shape)
    return _decode_any_tensor(data)


def _unpack_uint8(packed: Array) -> Array | None:
    """Packed varints of uint8 values; None where they are written as no encoder writes them.

    A value of 128 or more is two bytes, itself and 1: its low seven bits under the continuation
    bit are the value again, and the bit that is left over is the second byte.
    """
    if packed.max(initial=0) < 128:
        return packed
    large = packed >= 128
    second = np.zeros_like(large)
    second[1:] = large[:-1]
    if large[-1] or ((packed != 1) & second).any():
        return None
    return packed[~second]


def _decode_any_tensor(data: memoryview) -> Array:
    """Reads any tensor as `tf.make_ndarray` does, value by value."""
    tensor = wire_pb2.TensorProto.FromString(bytes(data))
    shape = _shape(tensor.tensor_shape)
    size = math.prod(shape)
    values: Array
    if tensor.dtype == STRING:
        values = np.empty(len(tensor.string_val), object)
        values[:] = tensor.string_val
    elif tensor.dtype not in DTYPES:
        raise ValueError(f"a tensor of DataType {tensor.dtype}")
    else:
        dtype = DTYPES[tensor.dtype]
        if tensor.tensor_content:
            return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
        field = getattr(tensor, FIELDS.get(tensor.dtype, "int_val"))
        if dtype == np.float16:
            values = np.array(field, np.uint16).view(np.float16)
        else:
            values = np.array(field, WIDE.get(dtype, dtype))
            if dtype in WIDE and (values != values.astype(dtype)).any():
                raise ValueError(f"a value outside of {dtype}")
            values = values.astype(dtype, copy=False)
    if 0 < values.size < size:  # TensorFlow leaves out repetitions of the last value
        values = np.concatenate([values, np.repeat(values[-1:], size - values.size)])
    elif values.size == 0 and size > 0:
        values = np.full(size, b"", object) if tensor.dtype == STRING else np.zeros(size, dtype)
    return values.reshape(shape)


def _shape(proto: Any) -> tuple[int, ...]:
    shape = tuple(dim.size for dim in proto.dim)
    if any(size < 0 for size in shape):
        raise ValueError(f"the shape {shape}")
    return shape
