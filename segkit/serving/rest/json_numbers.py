"""The short way for images: a list of small integers is cut out of the text and read by NumPy.

As Python objects an image of 480x640 costs 150 ms and 40 MB, as bytes a quarter of that. The list
is taken only if it is spelled without any fault, so whatever this module declines goes the long
way, which knows every message.
"""

from __future__ import annotations

import math
import secrets
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segkit.engines import StatusError
from segkit.serving.rest.json_text import parse_object

__all__ = ["Lifted", "lift_numbers"]

MIN_BYTES = 1 << 16  # below, the long way is short enough
MAX_RANK = 31
INT32_MAX = 2**31 - 1

_WHITESPACE = b" \t\r\n"
_DIGITS = b"0123456789"
_IN_LIST = np.zeros(256, bool)
_IN_LIST[list(_DIGITS + b",[]" + _WHITESPACE)] = True
_OPENING, _CLOSING, _ZERO = b"[]0"
# What stands in the document for the list; a client cannot know it.
_PLACEHOLDER = secrets.token_hex(8)

Array = npt.NDArray[Any]


class Lifted(NamedTuple):
    """A predict request that is one list of integers from 0 to 2^31 - 1, and little more.

    Args:
        numbers: They.
        by_row: Whether it lists instances.
        signature_name: The signature that it names, or "".
        input_name: The input that it names, or "".
    """

    numbers: Array
    by_row: bool
    signature_name: str
    input_name: str


def lift_numbers(body: bytes) -> Lifted | None:
    """Reads a request of that kind; None if it is another or has any fault."""
    begin = _find_list(body) if len(body) >= MIN_BYTES else -1
    if begin < 0:
        return None
    inside = _IN_LIST[np.frombuffer(body, np.uint8, offset=begin)]
    end = len(body) if inside.all() else begin + int(inside.argmin())
    end = body.rfind(b"]", begin, end) + 1
    numbers = _read_list(body[begin:end]) if end else None
    if numbers is None:
        return None
    try:
        document = parse_object(body[:begin] + f'"{_PLACEHOLDER}"'.encode() + body[end:])
    except StatusError:
        return None
    signature = document.get("signature_name", "")
    if not isinstance(signature, str) or ("instances" in document) == ("inputs" in document):
        return None
    match document:
        case {"instances": str(value)} if value == _PLACEHOLDER:
            return Lifted(numbers, True, signature, "")
        case {"instances": [{**members}]} if list(members.values()) == [_PLACEHOLDER]:
            return Lifted(numbers[np.newaxis], True, signature, str(*members))
        case {"inputs": str(value)} if value == _PLACEHOLDER:
            return Lifted(numbers, False, signature, "")
        case {"inputs": {**members}} if list(members.values()) == [_PLACEHOLDER]:
            return Lifted(numbers, False, signature, str(*members))
    return None


def _find_list(body: bytes) -> int:
    """Where brackets begin that lead to a digit, with nothing else in between; -1 if nowhere."""
    begin = body.find(b"[")
    while begin >= 0:
        at = begin
        while body[at : at + 1] in (b"[", b" ", b"\n"):
            at += 1
        if body[at : at + 1].isdigit():
            return begin
        begin = body.find(b"[", at)
    return -1


def _read_list(text: bytes) -> Array | None:
    """A list of lists of numbers as an array; None if it is spelled wrong or is not regular."""
    compact = text.translate(None, _WHITESPACE)
    raw = np.frombuffer(compact, np.uint8)
    digits = _are_digits(raw)
    count = _count_runs(digits)
    if len(text) != len(compact) and count != _count_runs(
        _are_digits(np.frombuffer(text, np.uint8))
    ):
        return None  # there was "1 2"
    punctuation = compact.translate(None, _DIGITS)
    shape = _regular_shape(punctuation)
    if shape is None or math.prod(shape) != count:
        return None
    # As many numbers as places for them; none is before a list or behind one, so each has its own.
    behind_list = (raw[:-1] == _CLOSING) & digits[1:]
    before_list = digits[:-1] & (raw[1:] == _OPENING)
    padded = ~digits[:-2] & (raw[1:-1] == _ZERO) & digits[2:]  # JSON has no 007
    if behind_list.any() or before_list.any() or padded.any():
        return None
    flat = np.fromstring(compact.translate(None, b"[]"), np.int64, sep=",")
    # What is beyond int64 has become its largest number.
    return flat.reshape(shape) if flat.max() <= INT32_MAX else None


def _are_digits(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    return (raw - np.uint8(_ZERO)) < 10


def _count_runs(digits: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(digits[1:] > digits[:-1])) + int(digits[0])


def _regular_shape(punctuation: bytes) -> tuple[int, ...] | None:
    """The shape of a list, from its brackets and commas; None if its parts are of several sizes."""
    rank = len(punctuation) - len(punctuation.lstrip(b"["))
    if not 0 < rank <= MAX_RANK:
        return None
    shape: list[int] = []
    part = b""
    for _ in range(rank):
        # Opened here, the list goes on as `part` again and again until it closes.
        begin = rank - len(shape)
        end = punctuation.find(b"]" * (len(shape) + 1), begin)
        if end < 0:
            return None
        size, rest = divmod(end + len(shape) + 1 - begin, len(part) + 1)
        if rest or not size:
            return None
        shape.insert(0, size)
        part = b"[" + b",".join([part] * size) + b"]"
    return tuple(shape) if part == punctuation else None
