"""The tf.Examples of classify and regress as JSON: what is wrong with them is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from segkit.engines import StatusError
from segkit.serving.rest.json_examples import check_examples


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"a": 1}, "When method is classify, key 'examples' is expected and was not found"),
        ({"examples": 1}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
    ],
)
def test_examples_are_needed(document: Any, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        check_examples(document)
    assert caught.value.message == f"JSON Value: {json.dumps(document, indent=4)} {message}"


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (1, "Example must be JSON object but got JSON Number"),
        ([], "Example must be JSON object but got JSON Array"),
        ({"a": None}, "Feature: a has element with unexpected JSON type: Null"),
        ({"a": [[1]]}, "Feature: a has element with unexpected JSON type: Array"),
        ({"a": {"b": 1}}, "Feature: a has element with unexpected JSON type: Object"),
        ({"a": [1, 2.5]}, "Unexpected element type in feature: a expecting type: int64"),
        ({"a": ["x", 1]}, "Unexpected element type in feature: a expecting type: bytes"),
        ({"a": [1.5, True]}, "Unexpected element type in feature: a expecting type: float"),
        ({"a": 2**63}, "Feature: a has uint64_t element. Only int64_t is supported."),
        ({"a": {"b64": "%"}}, "Unable to base64 decode"),
    ],
)
def test_examples_have_features_of_one_kind(example: Any, message: str) -> None:
    for document in ({"examples": [{}, example]}, {"context": example, "examples": [{}]}):
        with pytest.raises(StatusError) as caught:
            check_examples(document)
        assert caught.value.message == message


def test_good_examples_pass() -> None:
    example = {
        "names": ["foo", {"b64": "aGk="}],
        "age": 20,
        "mix": [1, True],
        "rate": [8.5, 2.0**80],
    }
    check_examples({"context": {"q": "x"}, "examples": [example, {}]})
