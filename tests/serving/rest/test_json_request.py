from __future__ import annotations

import base64
import json
import random
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from segkit.engines import Code, StatusError
from segkit.serving.rest import json_numbers
from segkit.serving.rest.json_array import decode_base64
from segkit.serving.rest.json_request import PredictCall, read_predict_call

IMAGE = np.random.default_rng(2).integers(0, 256, (2, 6, 5, 3), np.uint8)


def signature(**inputs: tf.DType) -> Any:
    definition = meta_graph_pb2.SignatureDef()
    for name, dtype in inputs.items():
        definition.inputs[name].dtype = dtype.as_datatype_enum
    return definition


IMAGES = signature(image=tf.uint8)
TWO = signature(b=tf.string, a=tf.int32)


def read(body: Any, definition: Any = IMAGES) -> PredictCall:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_predict_call(raw, lambda: {"serving_default": definition})


def value(text: str, dtype: tf.DType) -> np.ndarray:
    """A value of the only input, columnar."""
    return read(f'{{"inputs": {text}}}'.encode(), signature(x=dtype)).arrays["x"]


def refused(body: Any, definition: Any = IMAGES, code: Code = Code.INVALID_ARGUMENT) -> str:
    with pytest.raises(StatusError) as caught:
        read(body, definition)
    assert caught.value.code == code
    return caught.value.message


@pytest.mark.parametrize("lifted", [True, False])
@pytest.mark.parametrize(
    ("body", "by_row"),
    [
        ({"instances": IMAGE.tolist()}, True),
        ({"instances": [{"image": image} for image in IMAGE.tolist()]}, True),
        ({"inputs": IMAGE.tolist()}, False),
        ({"inputs": {"image": IMAGE.tolist(), "what is not asked for": 1}}, False),
        ({"signature_name": "serving_default", "inputs": {"image": IMAGE.tolist()}}, False),
    ],
)
def test_images_are_read_by_rows_and_by_columns(
    lifted: bool, body: Any, by_row: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_numbers, "MIN_BYTES", 0 if lifted else 1 << 30)
    call = read(body)
    np.testing.assert_array_equal(call.arrays["image"], IMAGE)
    assert call.arrays["image"].dtype == np.uint8
    assert (call.by_row, call.signature_name) == (by_row, body.get("signature_name", ""))


@pytest.mark.parametrize(
    "body",
    [
        {"instances": IMAGE.tolist()},
        {"inputs": IMAGE.tolist(), "signature_name": ""},
        {"inputs": {"image": IMAGE.tolist()}},
        {"instances": [{"image": IMAGE[0].tolist()}]},
    ],
)
def test_the_usual_requests_take_the_short_way(body: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_numbers, "MIN_BYTES", 0)
    for text in (
        json.dumps(body),
        json.dumps(body, separators=(",", ":")),
        json.dumps(body, indent=1),
    ):
        assert json_numbers.lift_numbers(text.encode()) is not None


def test_the_short_way_reads_and_refuses_as_the_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is done to the text of a request, both ways make the same of it."""

    def outcome(body: bytes, definition: Any) -> Any:
        try:
            call = read(body, definition)
        except StatusError as err:
            return str(err)
        return (
            call.by_row,
            call.signature_name,
            {name: (array.dtype, array.tolist()) for name, array in call.arrays.items()},
        )

    rng = random.Random(5)
    texts = [
        b'{"instances": [[[10, 20, 255], [3, 4, 0]], [[1, 2, 3], [70, 80, 90]]]}',
        b'{"inputs":{"image":[[1,20],[300,4]]},"x":[[5]]}',
        b'{"instances":[{"image":[[1,2],[3,4]]}],"signature_name":"serving_default"}',
        b'{"a":"[1","inputs":[1,2]}',
    ]
    definitions = [IMAGES, signature(image=tf.float32), signature(image=tf.string)]
    taken = 0
    for _ in range(3000):
        text = bytearray(rng.choice(texts))
        for _ in range(rng.randint(0, 2)):
            at = rng.randrange(len(text))
            edit = rng.choice([b"0", b"7", b" ", b",", b"[", b"]", b"-", b'"', b".", b"{", b""])
            text[at : at + rng.randint(0, 1)] = edit
        definition = rng.choice(definitions)
        monkeypatch.setattr(json_numbers, "MIN_BYTES", 1 << 30)
        expected = outcome(bytes(text), definition)
        monkeypatch.setattr(json_numbers, "MIN_BYTES", 0)
        assert outcome(bytes(text), definition) == expected, text
        taken += json_numbers.lift_numbers(bytes(text)) is not None
    assert 500 < taken < 2500


@pytest.mark.parametrize(
    "numbers",
    [
        b"[1, 2 3]",
        b"[1, 02]",
        b"[[1, 2], [3]]",
        b"[[1, 2], 3]",
        b"[1, [2]]",
        b"[1, 2147483648]",
        b"[1, 99999999999999999999999]",
        b"[1,, 2]",
        b"[1]2[3]",
        b"[[1]2]",
        b"[" * 40 + b"1" + b"]" * 40,
    ],
)
def test_the_short_way_declines_what_is_not_plain(
    numbers: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_numbers, "MIN_BYTES", 0)
    assert json_numbers.lift_numbers(b'{"inputs": ' + numbers + b"}") is None


def test_integers_wrap_where_the_dtype_is_smaller_than_the_check() -> None:
    assert value("[300, -1, 255, 2147483647]", tf.uint8).tolist() == [44, 255, 255, 255]
    assert value("[300, -1, 128]", tf.int8).tolist() == [44, -1, -128]
    assert value("[70000]", tf.int16).tolist() == [70000 - 65536]


@pytest.mark.parametrize(
    ("dtype", "least", "most"),
    [
        (tf.uint8, -(2**31), 2**31 - 1),
        (tf.int32, -(2**31), 2**31 - 1),
        (tf.int64, -(2**63), 2**63 - 1),
        (tf.uint32, 0, 2**32 - 1),
        (tf.uint64, 0, 2**64 - 1),
    ],
)
def test_integers_have_a_range(dtype: tf.DType, least: int, most: int) -> None:
    accepted = value(f"[{least}, {most}]", dtype)
    assert accepted.dtype == dtype.as_numpy_dtype
    for number in (least - 1, most + 1):
        body = {"inputs": [number]}
        assert f"is not of expected type: {dtype.name}" in refused(body, signature(x=dtype))


def test_numbers_become_decimals() -> None:
    floats = value("[1, 2.5, 1435774380, 1e300, -1e300, 1e-300, NaN, -Infinity]", tf.float32)
    np.testing.assert_array_equal(
        floats,
        np.array([1, 2.5, 1435774380, np.inf, -np.inf, 0, np.nan, -np.inf], np.float32),
    )
    doubles = value(f"[1e300, {10**400}]", tf.float64)
    assert doubles.tolist() == [1e300, np.inf]


def test_bools_strings_and_bytes() -> None:
    assert value("[[true], [false]]", tf.bool).tolist() == [[True], [False]]
    strings = value('["é", "\\u0000", {"b64": "aGVsbG8="}, {"b64": "aGVsbG8"}]', tf.string)
    assert strings.tolist() == ["é".encode(), b"\0", b"hello", b"hello"]
    assert value('{"b64": "/w=="}', tf.string).tolist() == b"\xff"


def test_scalars_and_empty_lists_have_shapes() -> None:
    assert value("7", tf.int32).shape == ()
    assert value("[]", tf.int32).shape == (0,)
    assert value("[[], []]", tf.string).shape == (2, 0)
    assert value("[[], []]", tf.half).shape == (2, 0)
    assert read({"instances": [1, 2, 3]}).arrays["image"].shape == (3,)
    assert read({"instances": [[], []]}).arrays["image"].shape == (2, 0)


def test_rows_of_several_inputs() -> None:
    rows = [{"a": [1, 2], "b": "x"}, {"b": {"b64": "eQ=="}, "a": [3, 4]}]
    arrays = read({"instances": rows}, TWO).arrays
    assert arrays["a"].tolist() == [[1, 2], [3, 4]]
    assert arrays["b"].tolist() == [b"x", b"y"]


def test_bytes_are_rows_of_one_input() -> None:
    body = {"instances": [{"b64": "aGk="}, {"b64": ""}]}
    assert read(body, signature(encoded_image=tf.string)).arrays["encoded_image"].tolist() == [
        b"hi",
        b"",
    ]


def pretty(value: Any) -> str:
    return json.dumps(value, indent=4)


@pytest.mark.parametrize(
    "body", [{"signature_name": 5, "instances": [1]}, {"signature_name": None, "inputs": [1]}]
)
def test_the_signature_is_named_by_a_string(body: Any) -> None:
    assert refused(body) == (
        f"JSON Value: {pretty(body)} not formatted correctly. "
        "'signature_name' key must be a string value."
    )


def test_errors_of_the_document() -> None:
    assert refused({}) == "Missing 'inputs' or 'instances' key"
    body: dict[str, Any] = {"inputs": 1, "instances": [1]}
    assert refused(body) == (
        f"JSON Value: {pretty(body)} Not formatted correctly expecting only one of 'inputs' or "
        "'instances' keys to exist "
    )
    body = {"instances": {"image": 1}}
    assert refused(body) == (
        f"JSON Value: {pretty(body)} Expecting 'instances' to be an list/array"
    )
    body = {"instances": []}
    assert refused(body) == f"JSON Value: {pretty(body)} No values in 'instances' array"
    body = {"signature_name": "x", "instances": [1]}
    assert refused(body) == 'Serving signature name: "x" not found in signature def'
    assert refused({"instances": [1]}, signature()) == (
        "Failed to get input map for signature: DEFAULT"
    )


def test_several_inputs_are_named() -> None:
    assert refused({"instances": [1]}, TWO) == (
        "instances is a plain list, but expecting list of objects as multiple input tensors "
        "required as per tensorinfo_map"
    )
    assert refused({"instances": [{"b64": "aGk="}]}, TWO).startswith("instances is a plain list")
    assert refused({"inputs": [1]}, TWO) == (
        "inputs is a plain value/list, but expecting an object as multiple input tensors "
        "required as per tensorinfo_map"
    )
    assert refused({"inputs": {"a": [1]}}, TWO) == "Missing named input: b in 'inputs' object."


@pytest.mark.parametrize(
    ("leaf", "kind"),
    [
        (None, "Null"),
        (False, "False"),
        (True, "True"),
        ({"a": 1}, "Object"),
        ("a", "String"),
        (1.5, "Number"),
        (2**31, "Number"),
    ],
)
def test_a_leaf_of_another_type_is_named(leaf: Any, kind: str) -> None:
    expected = f"JSON Value: {pretty(leaf)} Type: {kind} is not of expected type: uint8"
    assert refused({"inputs": {"image": [[1, leaf]]}}) == expected
    # Whatever comes after it.
    assert refused({"inputs": {"image": [[1, leaf], [3], "x"]}}) == expected


def test_other_dtypes_are_named_by_tensorflow() -> None:
    assert refused({"inputs": ["a"]}, signature(x=tf.float32)).endswith("expected type: float")
    assert refused({"inputs": ["a"]}, signature(x=tf.float64)).endswith("expected type: double")
    assert refused({"inputs": [1]}, signature(x=tf.string)).endswith("expected type: string")
    assert refused({"inputs": [1]}, signature(x=tf.bool)).endswith("expected type: bool")


def test_some_dtypes_are_not_read_from_json() -> None:
    half = signature(x=tf.half)
    assert refused({"inputs": [1.5]}, half, Code.UNIMPLEMENTED) == (
        "Conversion of JSON Value: 1.5 to type: half"
    )
    assert refused({"instances": [1.5]}, half) == (
        "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: "
        "Conversion of JSON Value: 1.5 to type: half"
    )
    assert refused({"inputs": [1]}, signature(x=tf.uint16), Code.UNIMPLEMENTED).endswith("uint16")
    assert refused({"inputs": [{"a": 1}]}, half) == (
        f"JSON Value: {pretty({'a': 1})} Type: Object is not of expected type: half"
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([[1, 2], [3]], "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ([[1], [2, 3]], "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        (
            [[1], 2],
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ([1, [2]], "Encountered list at unexpected level: 1 expected < 1"),
        ([[[1]], [[[2]]]], "Encountered list at unexpected level: 3 expected < 3"),
    ],
)
def test_lists_are_regular(inputs: Any, message: str) -> None:
    assert refused({"inputs": inputs}) == message


def test_there_are_no_tensors_of_very_many_dimensions() -> None:
    deep: Any = 1
    for _ in range(32):
        deep = [deep]
    assert refused({"inputs": deep}) == "tensor parsing error: image"
    assert refused({"instances": [deep]}).endswith("INVALID_ARGUMENT: tensor parsing error: image")


def element(index: int, message: str, key: str = "") -> str:
    where = f"{index} key: {key}" if key else str(index)
    place = f"Failed to process element: {where} of 'instances' list. "
    return f"{place}Error: INVALID_ARGUMENT: {message}"


def test_rows_are_alike() -> None:
    assert refused({"instances": [[1, 2], [3]]}) == element(
        1, "Expecting tensor size: 2 but got: 1"
    )
    assert refused({"instances": [[[1, 2]], [[3], [4]]]}) == element(
        1, "Expecting shape [1,2] but got: [2,1]"
    )
    assert refused({"instances": [1, [1]]}) == element(1, "Expecting shape [] but got: [1]")
    assert refused({"instances": [[1, 2], [3, "x"]]}) == element(
        1, 'JSON Value: "x" Type: String is not of expected type: uint8'
    )
    assert refused({"instances": [{"image": 1}, {"image": "x"}]}) == element(
        1, 'JSON Value: "x" Type: String is not of expected type: uint8', "image"
    )
    assert refused({"instances": [{"image": [1]}, {"image": [1, 2]}]}) == element(
        1, "Expecting tensor size: 1 but got: 2", "image"
    )


def test_rows_are_all_objects_or_none_is() -> None:
    assert refused({"instances": [{"image": 1}, 2]}) == (
        "Expecting object but got list at item 1 of input list"
    )
    assert refused({"instances": [1, {"image": 2}]}) == (
        "Expecting value/list but got object at item 1 of input list"
    )


def test_rows_name_the_inputs() -> None:
    assert refused({"instances": [{"foo": 1}]}) == element(
        0, "JSON object: does not have named input: foo", "foo"
    )
    row = {"a": 1}
    assert refused({"instances": [row]}, TWO) == (
        f"Failed to process element: 0 of 'instances' list. JSON object: {pretty(row)} "
        "keys must be equal to: a,b"
    )


@pytest.mark.parametrize("text", ["%", "A", "AAA==", "AA=", "AAAA=", "A=AA", "AAAAA", "é"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    strings = signature(x=tf.string)
    assert refused({"inputs": [{"b64": text}]}, strings) == "Unable to base64 decode"
    assert refused({"instances": [{"b64": text}]}, strings) == element(0, "Unable to base64 decode")


@pytest.mark.parametrize("leaf", [{"b64": 1}, {"b64": "", "x": 1}, {}, {"b": "aGk="}])
def test_what_is_no_object_of_base64_is_refused(leaf: Any) -> None:
    assert refused({"inputs": [leaf]}, signature(x=tf.string)) == (
        f"JSON Value: {pretty(leaf)} not formatted correctly for base64 data"
    )


def test_base64_may_have_white_space_and_lack_its_padding() -> None:
    for size in range(5):
        raw = bytes(range(250, 250 + size))
        text = base64.b64encode(raw).decode()
        for variant in (text, text.rstrip("="), text.replace("=", "."), f" {text[:2]}\n{text[2:]}"):
            assert decode_base64({"b64": variant}) == raw
