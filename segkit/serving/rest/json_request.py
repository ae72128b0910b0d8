"""The tensors in the body of a predict request, by TensorFlow Serving's rules and in its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segkit.contract import DEFAULT_SIGNATURE
from segkit.engines import Code, StatusError
from segkit.serving.rest.json_array import from_integers, is_base64, read_array, stack_values
from segkit.serving.rest.json_numbers import Lifted, lift_numbers
from segkit.serving.rest.json_text import echo, parse_object

__all__ = ["PredictCall", "read_predict_call", "read_signature_name"]

Array = npt.NDArray[Any]
Infos = Mapping[str, Any]  # input name -> tensorflow.TensorInfo


class PredictCall(NamedTuple):
    """What a predict request asks to be run.

    Args:
        signature_name: The signature that it names, or "" for the default one.
        arrays: Input name -> values; strings are object arrays of bytes.
        by_row: Whether the request lists instances, and the reply predictions.
    """

    signature_name: str
    arrays: dict[str, Array]
    by_row: bool


def read_predict_call(body: bytes, find_signatures: Callable[[], Mapping[str, Any]]) -> PredictCall:
    """Reads the body of a predict request.

    Args:
        body: A JSON object.
        find_signatures: Gives the tensorflow.SignatureDefs by name, or fails because there is no
            such model, which comes after what is no JSON.

    Raises:
        StatusError: It is no such object, or does not fit the signature.
    """
    lifted = lift_numbers(body)
    if lifted is not None:
        call = _use_lifted(lifted, find_signatures())
        if call is not None:
            return call
    document = parse_object(body)
    name = read_signature_name(document)
    infos = _input_infos(find_signatures(), name)
    return PredictCall(name, *_read_inputs(document, infos))


def read_signature_name(document: Mapping[str, Any]) -> str:
    """The signature that a request names, or "".

    Raises:
        StatusError: It is not a string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _invalid(
            f"JSON Value: {echo(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


def _use_lifted(lifted: Lifted, signatures: Mapping[str, Any]) -> PredictCall | None:
    signature = signatures.get(lifted.signature_name or DEFAULT_SIGNATURE)
    if signature is None or len(signature.inputs) != 1:
        return None
    ((name, info),) = signature.inputs.items()
    if lifted.input_name not in ("", name):
        return None
    array = from_integers(lifted.numbers, info.dtype)
    return (
        None if array is None else PredictCall(lifted.signature_name, {name: array}, lifted.by_row)
    )


def _input_infos(signatures: Mapping[str, Any], name: str) -> Infos:
    key = name or DEFAULT_SIGNATURE
    if key not in signatures:
        raise _invalid(f'Serving signature name: "{key}" not found in signature def')
    infos = dict(sorted(signatures[key].inputs.items()))
    if not infos:
        raise _invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    return infos


def _read_inputs(document: Mapping[str, Any], infos: Infos) -> tuple[dict[str, Array], bool]:
    if "instances" not in document:
        if "inputs" not in document:
            raise _invalid("Missing 'inputs' or 'instances' key")
        return _read_columns(document["inputs"], infos), False
    rows = document["instances"]
    if "inputs" in document:
        problem = (
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    elif not isinstance(rows, list):
        problem = "Expecting 'instances' to be an list/array"
    elif not rows:
        problem = "No values in 'instances' array"
    else:
        return _read_rows(rows, infos), True
    raise _invalid(f"JSON Value: {echo(document)} {problem}")


def _read_columns(value: Any, infos: Infos) -> dict[str, Array]:
    """The value of "inputs": a tensor, or an object of tensors by name."""
    if isinstance(value, dict) and not is_base64(value):
        arrays = {}
        for name, info in infos.items():
            if name not in value:
                raise _invalid(f"Missing named input: {name} in 'inputs' object.")
            arrays[name] = read_array(value[name], name, info.dtype)
        return arrays
    if len(infos) > 1:
        raise _invalid(
            "inputs is a plain value/list, but expecting an object as multiple input tensors "
            "required as per tensorinfo_map"
        )
    ((name, info),) = infos.items()
    return {name: read_array(value, name, info.dtype)}


def _read_rows(rows: list[Any], infos: Infos) -> dict[str, Array]:
    """The value of "instances": values of one input, or objects with one of each, but no mix.

    They are read as a whole; only where that fails row by row, which finds the one to blame.
    """
    # (There, bytes pass for an object here, and the other inputs are missed later.)
    if not _is_named(rows[0]) and len(infos) > 1:
        raise _invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    arrays = {}
    for name, column in _columns(rows, infos).items():
        array = stack_values(column, infos[name].dtype)
        if array is not None:
            arrays[name] = array
    if _is_named(rows[0]):
        return arrays if len(arrays) == len(infos) else _read_named_rows(rows, infos)
    return arrays or _read_plain_rows(rows, infos)


def _columns(rows: list[Any], infos: Infos) -> dict[str, list[Any]]:
    """Rows by input; nothing where they are not all of a kind."""
    if _is_named(rows[0]):
        if all(_is_named(row) and row.keys() == infos.keys() for row in rows):
            return {name: [row[name] for row in rows] for name in infos}
    elif dict not in set(map(type, rows)) or not any(map(_is_named, rows)):
        return {next(iter(infos)): rows}
    return {}


def _is_named(row: Any) -> bool:
    return isinstance(row, dict) and not is_base64(row)


def _read_plain_rows(rows: list[Any], infos: Infos) -> dict[str, Array]:
    name = next(iter(infos))
    column: list[Array] = []
    for index, row in enumerate(rows):
        if _is_named(row):
            raise _invalid(f"Expecting value/list but got object at item {index} of input list")
        try:
            column.append(_read_alike(row, name, infos, column))
        except StatusError as err:
            raise _invalid(
                f"Failed to process element: {index} of 'instances' list. Error: {err}"
            ) from err
    return {name: np.stack(column)}


def _read_named_rows(rows: list[Any], infos: Infos) -> dict[str, Array]:
    columns: dict[str, list[Array]] = {name: [] for name in infos}
    for index, row in enumerate(rows):
        if not _is_named(row):
            raise _invalid(f"Expecting object but got list at item {index} of input list")
        for name, value in row.items():
            try:
                if name not in infos:
                    raise _invalid(f"JSON object: does not have named input: {name}")
                columns[name].append(_read_alike(value, name, infos, columns[name]))
            except StatusError as err:
                raise _invalid(
                    f"Failed to process element: {index} key: {name} of 'instances' list. "
                    f"Error: {err}"
                ) from err
        if row.keys() != infos.keys():
            raise _invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{echo(row)} keys must be equal to: {','.join(infos)}"
            )
    return {name: np.stack(column) for name, column in columns.items()}


def _read_alike(value: Any, name: str, infos: Infos, column: Sequence[Array]) -> Array:
    """A tensor of the shape of those before it."""
    array = read_array(value, name, infos[name].dtype)
    if column and array.size != column[0].size:
        raise _invalid(f"Expecting tensor size: {column[0].size} but got: {array.size}")
    if column and array.shape != column[0].shape:
        raise _invalid(
            f"Expecting shape {_shape_text(column[0].shape)} but got: {_shape_text(array.shape)}"
        )
    return array


def _shape_text(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
