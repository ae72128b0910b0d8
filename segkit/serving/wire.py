"""The tensor codec: TensorProto to array, and arrays to the bytes of a PredictResponse.

TensorFlow Serving writes tensors into the typed fields, never into tensor_content: a uint8 map is
packed varints (`int_val`). Going through Python integers costs 100 ms and more for a frame, so the
packed bytes are computed by numpy and spliced between the other fields.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

__all__ = ["decode_tensor", "encode_response", "encode_tensor"]

Array = npt.NDArray[Any]
# Bytes of a reply. They are put together once, at the end: copies of a frame cost more than its
# encoding does.
_Part = bytes | memoryview

# Field numbers of tensorflow.serving.PredictResponse and of its map entry.
OUTPUTS, KEY, VALUE = 1, 1, 2
LENGTH_DELIMITED = 2
MAX_VARINT_BYTES = 10

MAX_RANK = 254  # TensorFlow's
# What a request may leave to be filled in: 72 images of 480x640. A string may be answered by a
# long one, so there are to be fewer of them.
MAX_FILLED_BYTES = 1 << 26
MAX_FILLED_STRINGS = 1 << 10


@dataclass(frozen=True)
class _Field:
    """A repeated field of TensorProto.

    `view` is the dtype its items are on the wire where that is not the tensor's own: the bits of a
    half as uint16, the two parts of a complex number.
    """

    name: str
    number: int
    packing: str  # "varint", "fixed" or "bytes"
    view: type[Any] | None = None


_INT = _Field("int_val", 7, "varint")
_FIELDS: Mapping[int, _Field] = {
    types_pb2.DT_FLOAT: _Field("float_val", 5, "fixed"),
    types_pb2.DT_DOUBLE: _Field("double_val", 6, "fixed"),
    types_pb2.DT_INT32: _INT,
    types_pb2.DT_INT16: _INT,
    types_pb2.DT_INT8: _INT,
    types_pb2.DT_UINT16: _INT,
    types_pb2.DT_UINT8: _INT,
    types_pb2.DT_STRING: _Field("string_val", 8, "bytes"),
    types_pb2.DT_COMPLEX64: _Field("scomplex_val", 9, "fixed", np.float32),
    types_pb2.DT_INT64: _Field("int64_val", 10, "varint"),
    types_pb2.DT_BOOL: _Field("bool_val", 11, "varint"),
    types_pb2.DT_COMPLEX128: _Field("dcomplex_val", 12, "fixed", np.float64),
    types_pb2.DT_HALF: _Field("half_val", 13, "varint", np.uint16),
    types_pb2.DT_BFLOAT16: _Field("half_val", 13, "varint", np.uint16),
    types_pb2.DT_UINT32: _Field("uint32_val", 16, "varint"),
    types_pb2.DT_UINT64: _Field("uint64_val", 17, "varint"),
}


def decode_tensor(proto: Any) -> Array:
    """Reads a TensorProto by TensorFlow's rules; tensor_content is not copied.

    Where there are fewer values than elements the last one is repeated, where there are none the
    elements are zero, and what is too much is left out. A few bytes may ask for a tensor of any
    size in this way: more than MAX_FILLED_BYTES are refused, as TensorFlow refuses what it cannot
    allocate.

    Args:
        proto: A tensorflow.TensorProto.

    Raises:
        ValueError: The dtype or the shape is impossible, tensor_content does not fit the shape, or
            too much of it is to be filled in.
    """
    if proto.dtype not in _FIELDS:
        raise ValueError(f"no tensor of dtype {proto.dtype}")
    field = _FIELDS[proto.dtype]
    dtype = tf.dtypes.as_dtype(proto.dtype).as_numpy_dtype
    shape = proto.tensor_shape
    if shape.unknown_rank or len(shape.dim) > MAX_RANK:
        raise ValueError(f"a tensor has a known shape of up to {MAX_RANK} sizes")
    sizes = [dim.size for dim in shape.dim]
    if any(size < 0 for size in sizes):
        raise ValueError("a size is negative")
    content = proto.tensor_content  # a copy each time it is asked for
    if content:
        return np.frombuffer(content, dtype).reshape(sizes)
    count = math.prod(sizes)
    values = _read_values(getattr(proto, field.name), field, dtype)
    if len(values) < count:
        missing = count - len(values)
        most = MAX_FILLED_STRINGS if dtype is object else MAX_FILLED_BYTES // values.itemsize
        if missing > most:
            raise ValueError(f"{missing} elements are to be filled in")
        fill = values[-1] if len(values) else _zero(dtype)
        values = np.concatenate([values, np.full(missing, fill, values.dtype)])
    return values[:count].reshape(sizes)


def encode_response(outputs: Mapping[str, Array], model_spec: Any) -> bytes:
    """The bytes of a PredictResponse.

    Args:
        outputs: Output name -> array; strings are object arrays of bytes.
        model_spec: The tensorflow.serving.ModelSpec to answer with.
    """
    parts: list[_Part] = []
    for name, value in outputs.items():
        entry = [*_delimited(KEY, [name.encode()]), *_delimited(VALUE, _tensor_parts(value))]
        parts += _delimited(OUTPUTS, entry)
    parts.append(predict_pb2.PredictResponse(model_spec=model_spec).SerializeToString())
    return b"".join(parts)


def encode_tensor(array: Array) -> bytes:
    """The bytes of a TensorProto with its values in the typed field of their dtype."""
    return b"".join(_tensor_parts(array))


def _tensor_parts(array: Array) -> list[_Part]:
    dtype = tf.dtypes.as_dtype(array.dtype).as_datatype_enum
    field = _FIELDS[dtype]
    proto = tensor_pb2.TensorProto(dtype=dtype)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = np.ravel(array)
    if field.packing == "bytes":
        proto.string_val.extend(flat.tolist())
        return [proto.SerializeToString()]
    if field.view is not None:
        flat = flat.view(field.view)
    body = _varints(flat) if field.packing == "varint" else flat.view(np.uint8)
    head = proto.SerializeToString()
    return [head, *_delimited(field.number, [body.data])] if len(body) else [head]


def _read_values(items: Any, field: _Field, dtype: Any) -> Array:
    if field.packing == "bytes":
        values = np.empty(len(items), object)
        values[:] = list(items)
        return values
    if field.view is not None:
        return np.fromiter(items, field.view, len(items)).view(dtype)
    # A value out of range wraps, as the cast in TensorFlow does.
    wire = dtype if field.packing == "fixed" or field is not _INT else np.int32
    return np.fromiter(items, wire, len(items)).astype(dtype, copy=False)


def _zero(dtype: Any) -> Any:
    return b"" if dtype is object else np.zeros((), dtype)[()]


def _varints(values: Array) -> npt.NDArray[np.uint8]:
    """Packs integers as varints: 7 bits a byte, low bits first, top bit set where more follow."""
    if values.dtype == np.uint8:
        if not values.size or values.max() < 128:
            return values
        # 128..255 are two bytes, of which the first is the number itself and the second is 1.
        pairs = np.stack([values, np.ones_like(values)], axis=-1)  # (N, 2)
        used = np.stack([np.ones(values.shape, bool), values > 127], axis=-1)
        return pairs.ravel().compress(used.ravel())
    if not values.size or (values.min() >= 0 and values.max() < 128):
        return values.astype(np.uint8)
    # Negative numbers count as 64 bits.
    unsigned = values.astype(np.int64 if values.dtype.kind == "i" else np.uint64).view(np.uint64)
    shifts = np.arange(0, 7 * MAX_VARINT_BYTES, 7, dtype=np.uint64)
    rest = unsigned[:, np.newaxis] >> shifts  # (N, 10): what is left at each byte
    more = np.where(rest > 127, 128, 0).astype(np.uint8)
    used = rest > 0
    used[:, 0] = True
    every_byte = (rest & np.uint64(127)).astype(np.uint8) | more
    return np.asarray(every_byte[used])


def _delimited(number: int, body: Sequence[_Part]) -> list[_Part]:
    """A length-delimited field: tag and length, then its body."""
    head = _varint(number << 3 | LENGTH_DELIMITED) + _varint(sum(map(len, body)))
    return [head, *body]


def _varint(number: int) -> bytes:
    """One number, of 0 or more, as a varint."""
    groups = []
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    return bytes([*groups, number])
