"""JSON in RapidJSON 1.1.0's words: TensorFlow Serving's REST API reads and echoes it with that.

Python's json module does the parsing, in C. Where it fails, the place is looked at again for the
text and the offset that RapidJSON gives. What differs, and is not worth a parser of our own:

- "Inf", "-Inf" and "-NaN", numbers there, are invalid values here;
- a number beyond the range of a double is an infinity here, an error there;
- a decimal fraction is read to the nearest double here, sometimes to its neighbor there;
- nesting as deep as Python's recursion limit is an error here; it ends the process there
  (CVE-2025-0649);
- a value in an error message is cut after MAX_ECHO characters here, nowhere there.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np

from segkit.engines import Code, StatusError
from segkit.serving.rest.json_errors import explain, find_lone_surrogate

__all__ = [
    "decode_text",
    "echo",
    "encode_text",
    "format_decimals",
    "new_line",
    "parse_object",
    "quote",
    "to_double",
]

MAX_ECHO = 4096
TRUNCATED = "...TRUNCATED"
INDENT = 4
FLOAT32_MAX = 3.4028234e38  # what RapidJSON holds a number against before it calls it a float

_BYTE_ORDER_MARK = "\ufeff"
# Longer than Python reads; it does not say where.
_UNREADABLE_INTEGER = re.compile(r"(?<!\d)-?\d{4300,}")
_ESCAPES = {code: f"\\u{code:04X}" for code in range(0x20)} | {
    ord(char): "\\" + letter
    for char, letter in zip('"\\\b\f\n\r\t', '"\\bfnrt', strict=True)  # "/" stays as it is
}
_SIGNIFICANT_DIGITS = {"f": 9, "d": 17}  # of float32 and float64, by NumPy's character


def decode_text(raw: bytes) -> str:
    """Bytes that need not be UTF-8 as text: RapidJSON passes them through, and so do we."""
    return raw.decode(errors="surrogateescape")


def encode_text(text: str) -> bytes:
    """The bytes of a text from `decode_text` or from JSON, with its lone surrogates if any."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")


def parse_object(body: bytes) -> dict[str, Any]:
    """Reads a request's body, which must be a JSON object.

    Raises:
        StatusError: INVALID_ARGUMENT: it is not, with the message of TensorFlow Serving.
    """
    if not body:
        raise _invalid("JSON Parse error: The document is empty")
    # RapidJSON takes a zero byte for the end.
    text = decode_text(body).partition("\0")[0]
    start = len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0
    text = text[start:]
    document = _parse(text, len(_BYTE_ORDER_MARK.encode()) if start else 0)
    if not isinstance(document, dict):
        raise _invalid(f"JSON Value: {echo(document)} Is not object")
    return document


def echo(value: Any) -> str:
    """A value as error messages repeat it: indented, and cut where it is long."""
    if isinstance(value, int) and not isinstance(value, bool) and not _fits_64_bits(value):
        value = to_double(value)
    if isinstance(value, float):
        # Only here, not inside of a list or an object, are decimals written as replies have them.
        return format_decimals([value], "f" if abs(value) <= FLOAT32_MAX else "d")[0]
    parts: list[str] = []
    length = 0
    for part in _pieces(value, 0):
        if part is None:  # RapidJSON stops at a number that it cannot write
            break
        parts.append(part)
        length += len(part)
        if length > MAX_ECHO:
            return "".join(parts)[:MAX_ECHO] + TRUNCATED
    return "".join(parts)


def quote(text: str) -> str:
    """A JSON string."""
    return f'"{text.translate(_ESCAPES)}"'


def format_decimals(values: list[float], kind: str) -> list[str]:
    """Numbers as replies have them: six digits where that is the number, else all.

    Args:
        values: Numbers, exact values of their kind.
        kind: "f" for float32, "d" for float64.
    """
    texts = [f"{value:.6g}" for value in values]
    with np.errstate(over="ignore"):
        read = np.array([float(text) for text in texts]).astype(kind)
        exact = np.array(values, float).astype(kind)
    for index in np.flatnonzero(read != exact).tolist():
        texts[index] = f"{exact[index]:.{_SIGNIFICANT_DIGITS[kind]}g}"
    return [_complete(text) for text in texts]


def _complete(text: str) -> str:
    if text.endswith("nan"):
        return "NaN"
    if text.endswith("inf"):
        return text.replace("inf", "Infinity")
    return text if "." in text or "e" in text else text + ".0"


def _parse(text: str, offset: int) -> Any:
    try:
        with _no_collection():
            document, problem, position = _load(text)
    except RecursionError:
        raise _invalid("JSON Parse error: The document is nested too deeply.") from None
    lone = find_lone_surrogate(text, position) if "\\u" in text else None
    if lone is not None:
        problem, position = "The surrogate pair in string is invalid.", lone
    if problem:
        position = offset + len(encode_text(text[:position]))
        raise _invalid(f"JSON Parse error: {problem} at offset: {position}")
    return document


def _load(text: str) -> tuple[Any, str, int]:
    """A document, or None with what is wrong and where; then how far it is good."""
    try:
        return json.loads(text, object_pairs_hook=_first_wins), "", len(text)
    except json.JSONDecodeError as err:
        return None, *explain(text, err)
    except ValueError:
        found = _UNREADABLE_INTEGER.search(text)
        return None, "Number too big to be stored in double.", found.start() if found else 0


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keeps the collector from walking a growing tree again and again: it has no cycles.

    That more than halves the time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of members of one name RapidJSON finds the first, where Python keeps the last."""
    members = dict(pairs)
    if len(members) != len(pairs):
        members.update(reversed(pairs))
    return members


def _pieces(value: Any, depth: int) -> Iterator[str | None]:
    """A value as RapidJSON's PrettyWriter writes it; None where it gives up."""
    if isinstance(value, list | dict):
        opening, closing = "[]" if isinstance(value, list) else "{}"
        yield opening
        for index, item in enumerate(value):
            yield ("," if index else "") + new_line(depth + 1)
            if isinstance(value, dict):
                yield quote(item) + ": "
                item = value[item]
            yield from _pieces(item, depth + 1)
        yield (new_line(depth) if value else "") + closing
    elif isinstance(value, str):
        yield quote(value)
    elif value is None or isinstance(value, bool):
        yield json.dumps(value)
    elif isinstance(value, int) and _fits_64_bits(value):
        yield str(value)
    else:
        number = to_double(value)
        yield _shortest(number) if math.isfinite(number) else None


def new_line(depth: int) -> str:
    """The end of a line and the indent of the next, in that many lists and objects."""
    return "\n" + " " * (INDENT * depth)


def _shortest(number: float) -> str:
    """The shortest decimal that is this double, in RapidJSON's form."""
    negative, numerals, exponent = Decimal(repr(number)).as_tuple()
    digits = "".join(map(str, numerals)).rstrip("0") or "0"
    point = len(numerals) + int(exponent)  # the place of the decimal point, from the first digit
    if number == 0:
        text = "0.0"
    elif len(digits) <= point <= 21:
        text = digits.ljust(point, "0") + ".0"
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        text = f"{digits[0]}{'.' * (len(digits) > 1)}{digits[1:]}e{point - 1}"
    return "-" * negative + text


def _fits_64_bits(value: int) -> bool:
    return -(2**63) <= value < 2**64


def to_double(value: float) -> float:
    """A number as a double; infinite where it is beyond the range of one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
