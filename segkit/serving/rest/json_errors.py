"""Why a text is no JSON, in RapidJSON 1.1.0's words, from what Python's json module says."""

from __future__ import annotations

import json
import re

__all__ = ["explain", "find_lone_surrogate"]

_LITERALS = {"n": "null", "t": "true", "f": "false", "N": "NaN", "I": "Infinity"}
_HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")
_LAST_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}")
_ENDS_IN_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\\Z")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?P<fraction>\.\d+)?(?P<exponent>[eE][-+]?\d+)?")
_NUMERALS = "0123456789.eE+-"
_NUMBER_GOES_ON = (".", "e", "E")
_SIGNS = ("+", "-")
# A \u escape of a high surrogate that no low one follows; the backslash is not escaped itself.
_LONE_SURROGATE = re.compile(
    r"(?<!\\)(?:\\\\)*(\\u[dD][89abAB][0-9a-fA-F]{2})(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)


def explain(text: str, err: json.JSONDecodeError) -> tuple[str, int]:
    """RapidJSON's message and position for a text that json.loads refuses."""
    at, problem = err.pos, err.msg
    if problem == "Expecting value":
        if not text.strip(" \t\r\n"):
            return "The document is empty.", len(text)
        return "Invalid value.", at + _matching_length(text, at)
    if problem.startswith("Expecting property name"):
        return "Missing a name for object member.", at
    if problem == "Expecting ':' delimiter":
        return "Missing a colon after a name of object member.", at
    if problem.startswith("Unterminated string"):
        if _ENDS_IN_ESCAPE.search(text, at):
            return "Invalid escape character in string.", len(text) - 1
        return "Missing a closing quotation mark in string.", len(text)
    if problem.startswith("Invalid control character"):
        return "Invalid escape character in string.", at
    if problem.startswith("Invalid \\uXXXX escape"):
        return _explain_escape(text, text.rindex("\\u", 0, at + 2))
    if problem.startswith("Invalid \\escape"):
        return "Invalid escape character in string.", at
    # What is left is a value followed by something that may not follow it, which includes the rest
    # of a number that is none.
    if text[at : at + 1] in _NUMBER_GOES_ON and (found := _explain_number(text, at)):
        return found
    if problem == "Extra data":
        return "The document root must not be followed by other values.", at
    if _is_in_object(text, at):
        return "Missing a comma or '}' after an object member.", at
    return "Missing a comma or ']' after an array element.", at


def find_lone_surrogate(text: str, end: int) -> int | None:
    """The position of an escaped half of a surrogate pair, which Python would let pass."""
    found = _LONE_SURROGATE.search(text, 0, end)
    return found.start(1) if found else None


def _explain_escape(text: str, at: int) -> tuple[str, int]:
    """What is wrong with a backslash and a "u"."""
    if _LAST_ESCAPE.fullmatch(text, at):  # nothing: the string ends there
        return "Missing a closing quotation mark in string.", len(text)
    # Half of a pair is wrong where the pair begins.
    begin = at - 6 if _HIGH_SURROGATE.fullmatch(text, at - 6, at) else at
    return "Incorrect hex digit after \\u escape in string.", begin


def _matching_length(text: str, at: int) -> int:
    """How far RapidJSON reads into what should be a value."""
    sign = 1 if text.startswith("-", at) else 0
    literal = _LITERALS.get(text[at + sign : at + sign + 1], "")
    if sign and literal and literal[0] not in "NI":
        return sign
    matching = 0
    for expected, given in zip(literal, text[at + sign : at + sign + len(literal)], strict=False):
        if expected != given:
            break
        matching += 1
    return sign + matching


def _explain_number(text: str, at: int) -> tuple[str, int] | None:
    """What a point or an exponent lacks; None where the number is over and may have neither."""
    begin = len(text[:at].rstrip(_NUMERALS))
    number = _NUMBER.match(text, begin)
    if number is None or number.end() != at or number["exponent"]:
        return None
    if text[at] == ".":
        return None if number["fraction"] else ("Miss fraction part in number.", at + 1)
    return "Miss exponent in number.", at + 1 + (text[at + 1 : at + 2] in _SIGNS)


def _is_in_object(text: str, at: int) -> bool:
    """Whether the innermost value that is open there is an object: only that can be closed."""
    try:
        json.loads(text[:at] + "}")
    except json.JSONDecodeError as err:
        return err.pos != at
    return True
