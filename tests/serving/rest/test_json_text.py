"""What RapidJSON 1.1.0 says; the texts and offsets were read off it."""

from __future__ import annotations

import gc
import math
import time
from typing import Any

import pytest

from segkit.engines import Code, StatusError
from segkit.serving.rest.json_text import (
    decode_text,
    echo,
    encode_text,
    format_decimals,
    parse_object,
)


def refused(body: bytes) -> str:
    with pytest.raises(StatusError) as caught:
        parse_object(body)
    assert caught.value.code == Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b" ", "The document is empty. at offset: 1"),
        (b"\0", "The document is empty. at offset: 0"),
        (b'{"a":1,}', "Missing a name for object member. at offset: 7"),
        (b"{1:2}", "Missing a name for object member. at offset: 1"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a":1', "Missing a comma or '}' after an object member. at offset: 6"),
        (b'{"a":[{}] "b"', "Missing a comma or '}' after an object member. at offset: 10"),
        (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
        (b"[[1,2],[3,4]", "Missing a comma or ']' after an array element. at offset: 12"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"[1.5.2]", "Missing a comma or ']' after an array element. at offset: 4"),
        (b"[1e5e]", "Missing a comma or ']' after an array element. at offset: 4"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b"[tru", "Invalid value. at offset: 4"),
        (b"[nux]", "Invalid value. at offset: 3"),
        (b"[- 1]", "Invalid value. at offset: 2"),
        (b"[-t]", "Invalid value. at offset: 2"),
        (b"[Infin]", "Invalid value. at offset: 6"),
        (b"instances = [1, 2]", "Invalid value. at offset: 0"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e]", "Miss exponent in number. at offset: 3"),
        (b"[1.5e+]", "Miss exponent in number. at offset: 6"),
        (b'"abc', "Missing a closing quotation mark in string. at offset: 4"),
        (b'["\\u001f', "Missing a closing quotation mark in string. at offset: 8"),
        (b'"a\0b"', "Missing a closing quotation mark in string. at offset: 2"),
        (b'"a\nb"', "Invalid escape character in string. at offset: 2"),
        (b'"\\x"', "Invalid escape character in string. at offset: 1"),
        (b'"a\\', "Invalid escape character in string. at offset: 2"),
        (b'"\\u12g4"', "Incorrect hex digit after \\u escape in string. at offset: 1"),
        (b'"\\ud83d\\ud+e0"', "Incorrect hex digit after \\u escape in string. at offset: 1"),
        (b'"\\ud800"', "The surrogate pair in string is invalid. at offset: 1"),
        (b'["\\ud800\\n", x', "The surrogate pair in string is invalid. at offset: 2"),
        (b"1 2", "The document root must not be followed by other values. at offset: 2"),
        (b"{}}", "The document root must not be followed by other values. at offset: 2"),
        (b'["\xc3\xa9" 1', "Missing a comma or ']' after an array element. at offset: 6"),
        (b"\xef\xbb\xbf[1", "Missing a comma or ']' after an array element. at offset: 5"),
        (b"[1, -" + b"9" * 5000 + b"]", "Number too big to be stored in double. at offset: 4"),
    ],
)
def test_what_is_no_json_is_named_with_its_place(body: bytes, problem: str) -> None:
    assert refused(body) == f"JSON Parse error: {problem}"


def test_an_empty_body_has_no_place() -> None:
    assert refused(b"") == "JSON Parse error: The document is empty"


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 10**6 + b"]" * 10**6])
def test_deep_nesting_is_an_error(body: bytes) -> None:
    assert refused(body) == "JSON Parse error: The document is nested too deeply."


@pytest.mark.parametrize("body", [b"[1]", b'"a"', b"7", b"null", b"1.5"])
def test_the_document_is_an_object(body: bytes) -> None:
    assert (
        refused(body) == f"JSON Value: {echo(eval(body.replace(b'null', b'None')))} Is not object"
    )


def test_a_document_ends_at_a_zero_byte_and_may_begin_with_a_mark() -> None:
    assert parse_object(b'\xef\xbb\xbf{"a": 1}\0 anything') == {"a": 1}


def test_of_two_members_of_a_name_the_first_counts() -> None:
    assert parse_object(b'{"a": 1, "b": 2, "a": 3}') == {"a": 1, "b": 2}


def test_not_a_number_and_infinity_are_numbers() -> None:
    document = parse_object(b'{"a": [NaN, Infinity, -Infinity]}')
    assert math.isnan(document["a"][0])
    assert document["a"][1:] == [math.inf, -math.inf]


@pytest.mark.parametrize("raw", [b"plain", "é€😀".encode(), b"\xff\x00\xfe", b""])
def test_any_bytes_go_through_text(raw: bytes) -> None:
    assert encode_text(decode_text(raw)) == raw


def test_a_lone_low_surrogate_is_written_as_three_bytes() -> None:
    assert encode_text(parse_object(b'{"a": "\\udc00"}')["a"]) == b"\xed\xb0\x80"


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_left_as_it_was(was_on: bool) -> None:
    (gc.enable if was_on else gc.disable)()
    try:
        parse_object(b"{}")
        refused(b"{")
        assert gc.isenabled() is was_on
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (2**64 - 1, "18446744073709551615"),
        (2**64, "1.84467441e+19"),
        (1.5, "1.5"),
        (0.1, "0.1"),
        (3.0, "3.0"),
        (1e300, "1e+300"),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        (-(10**400), "-Infinity"),
        ('a"\\/\n\x1f\x7fé', '"a\\"\\\\/\\n\\u001F\x7fé"'),
        ([], "[]"),
        ({}, "{}"),
        ([1, [2, {}]], "[\n    1,\n    [\n        2,\n        {}\n    ]\n]"),
        ({"a": [], "b": 1}, '{\n    "a": [],\n    "b": 1\n}'),
    ],
)
def test_values_are_echoed_indented(value: Any, text: str) -> None:
    assert echo(value) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1e30, "1e30"),
        (1.234e30, "1.234e30"),
        (1e20, "100000000000000000000.0"),
        (1e21, "1e21"),
        (12.5, "12.5"),
        (0.00125, "0.00125"),
        (1.25e-7, "1.25e-7"),
        (5e-324, "5e-324"),
        (-0.0, "-0.0"),
        (123456789012345678901234567890, "1.2345678901234568e29"),
    ],
)
def test_inside_of_a_list_decimals_are_echoed_in_another_form(number: float, text: str) -> None:
    assert echo([number]) == f"[\n    {text}\n]"


def test_an_echo_stops_before_a_number_that_cannot_be_written() -> None:
    assert echo({"a": [1, math.nan], "b": 2}) == '{\n    "a": [\n        1,\n        '


@pytest.mark.parametrize("value", ["a" * 10**6, [0] * 10**6, [["a" * 100] * 100] * 100])
def test_a_long_echo_is_cut(value: Any) -> None:
    text = echo(value)
    assert len(text) == 4096 + len("...TRUNCATED")
    assert text.endswith("...TRUNCATED")


def test_a_deep_echo_is_cut() -> None:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    assert echo(deep).endswith("...TRUNCATED")


@pytest.mark.parametrize(
    ("number", "float32", "float64"),
    [
        (9000000.0, "9e+06", "9e+06"),
        (999999.0, "999999.0", "999999.0"),
        (0.00003, "3e-05", "3e-05"),
        (0.2, "0.2", "0.2"),
        (-0.0, "-0.0", "-0.0"),
        (555557.5, "555557.5", "555557.5"),
        (16777216.0, "16777216.0", "16777216.0"),
        (0.1234567, "0.123456702", "0.1234567"),
        (0.1 + 0.2, "0.3", "0.30000000000000004"),
        (math.nan, "NaN", "NaN"),
        (-math.inf, "-Infinity", "-Infinity"),
    ],
)
def test_decimals_have_six_digits_or_all(number: float, float32: str, float64: str) -> None:
    assert format_decimals([number], "f") == [float32]
    assert format_decimals([number], "d") == [float64]


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1" * 4299 + (b"," + b"1" * 4299) * 300 + b"," + b"1" * 5000 + b"]",
        b"[1." + b"1" * 1_000_000 + b"e]",
        b'["' + b"\\\\" * 500_000 + b"\\ud800" + b'"]',
        b'["' + b"\\" * 999_999,
        b"[" + b"[1]," * 200_000,
        b"\t" * 1_000_000,
    ],
    ids=["integers", "fraction", "escapes", "backslashes", "lists", "blanks"],
)
def test_errors_are_found_in_time_proportional_to_the_text(body: bytes) -> None:
    begin = time.perf_counter()
    assert refused(body).startswith("JSON Parse error: ")
    assert time.perf_counter() - begin < 10
