from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from segkit.engines import Code, StatusError
from segkit.serving.rest.json_proto import metadata_body, status_body
from segkit.serving.rest.json_reply import error_body, predict_body


def strings(*values: bytes) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_rows_have_a_line_for_all() -> None:
    images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    assert predict_body({"class_ids": images}, by_row=True).decode() == (
        '{\n    "predictions": [[[0, 1], [2, 3]], [[4, 5], [6, 7]]\n    ]\n}'
    )


def test_rows_of_scalars() -> None:
    values = np.array([1, 2.5], np.float32)
    assert predict_body({"x": values}, by_row=True).decode() == (
        '{\n    "predictions": [1.0, 2.5\n    ]\n}'
    )


def test_rows_of_several_outputs_are_objects() -> None:
    outputs = {"b": np.array([[1, 2], [3, 4]]), "a": np.array([True, False])}
    assert (
        predict_body(outputs, by_row=True).decode()
        == """{
    "predictions": [
        {
            "a": true,
            "b": [1, 2]
        },
        {
            "a": false,
            "b": [3, 4]
        }
    ]
}"""
    )


def test_rows_of_bytes() -> None:
    body = predict_body({"x_bytes": strings(b"hello", b"world")}, by_row=True).decode()
    assert (
        body
        == """{
    "predictions": [{
            "b64": "aGVsbG8="
        }, {
            "b64": "d29ybGQ="
        }
    ]
}"""
    )


def test_columns_have_a_line_for_each_value() -> None:
    assert (
        predict_body({"x": np.array([[1, 2]], np.int64)}, by_row=False).decode()
        == """{
    "outputs": [
        [
            1,
            2
        ]
    ]
}"""
    )


def test_columns_of_several_outputs_are_objects() -> None:
    outputs = {"x_bytes": strings(b"hi").reshape(1, 1), "n": np.array(7, np.int32)}
    assert (
        predict_body(outputs, by_row=False).decode()
        == """{
    "outputs": {
        "n": 7,
        "x_bytes": [
            [
                {
                    "b64": "aGk="
                }
            ]
        ]
    }
}"""
    )


@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0), (2, 0, 3), (1, 2, 3), (3, 1, 1, 2)])
def test_shapes_come_back(shape: tuple[int, ...], by_row: bool) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    document = json.loads(predict_body({"x": array}, by_row=by_row))
    assert document == {"predictions" if by_row else "outputs": array.tolist()}
    several = json.loads(predict_body({"x": array, "y": array}, by_row=by_row))
    if by_row:
        assert several == {"predictions": [{"x": row, "y": row} for row in array.tolist()]}
    else:
        assert several == {"outputs": {"x": array.tolist(), "y": array.tolist()}}


@pytest.mark.parametrize(
    ("array", "texts"),
    [
        (np.array([0, 255], np.uint8), ["0", "255"]),
        (np.array([-128, 127], np.int8), ["-128", "127"]),
        (np.array([-(2**63), 2**63 - 1]), ["-9223372036854775808", "9223372036854775807"]),
        (np.array([0, 2**64 - 1], np.uint64), ["0", "18446744073709551615"]),
        (np.array([0.1, 1 / 3], np.float64), ["0.1", "0.33333333333333331"]),
        (np.array([np.nan, -np.inf], np.float32), ["NaN", "-Infinity"]),
        (np.array([False, True]), ["false", "true"]),
        (strings(b'a"\\/\n', "é".encode()), ['"a\\"\\\\/\\n"', '"é"']),
    ],
    ids=lambda item: str(getattr(item, "dtype", "")),
)
def test_values_are_written_by_their_dtype(array: Any, texts: list[str]) -> None:
    body = predict_body({"x": array}, by_row=True).decode()
    assert body == f'{{\n    "predictions": [{", ".join(texts)}\n    ]\n}}'


def test_text_that_is_no_utf8_goes_out_as_it_is() -> None:
    png = tf.io.encode_png(np.zeros((2, 2, 1), np.uint8)).numpy()
    body = predict_body({"encoded_mask": strings(png)}, by_row=True)
    (text,) = json.loads(body.decode("latin-1"))["predictions"]
    assert text.encode("latin-1") == png


def refused(outputs: Any, *, by_row: bool = True) -> str:
    with pytest.raises(StatusError) as caught:
        predict_body(outputs, by_row=by_row)
    assert caught.value.code == Code.INVALID_ARGUMENT
    return caught.value.message


def test_what_cannot_be_written_is_refused() -> None:
    assert refused({}) == "Cannot convert empty tensor map to JSON"
    assert refused({"x": np.array(1)}) == "Tensor name: x has no shape information "
    assert refused({"a": np.zeros(2), "b": np.zeros((3, 2))}) == (
        "Tensor name: b has inconsistent batch size: 3 expecting: 2"
    )
    assert refused({"a": np.zeros(0), "b": np.zeros(1)}).startswith("Tensor name: b has")
    for dtype, name in (
        (np.float16, "half"),
        (np.complex64, "complex64"),
        (np.uint16, "uint16"),
        (tf.bfloat16.as_numpy_dtype, "bfloat16"),
    ):
        for by_row in (True, False):
            assert refused({"x": np.zeros(1, dtype)}, by_row=by_row) == (
                f"Failed to write JSON value for tensor type: {name}"
            )
    assert json.loads(predict_body({"x": np.zeros(0, np.float16)}, by_row=False)) == {"outputs": []}


def test_an_error_is_one_line_of_an_object() -> None:
    body = error_body('a "b"\n\t[[{{node x}}]] é')
    assert body.decode() == '{\n    "error": "a \\"b\\"\\n\\t[[{{node x}}]] é"\n}'
    assert json.loads(body) == {"error": 'a "b"\n\t[[{{node x}}]] é'}


def test_a_status_has_every_field() -> None:
    response = get_model_status_pb2.GetModelStatusResponse()
    response.model_version_status.add(version=2, state="LOADING").status.SetInParent()
    entry = response.model_version_status.add(version=1, state="END")
    entry.status.error_code, entry.status.error_message = 3, "<é>"
    assert (
        status_body(response).decode()
        == """{
 "model_version_status": [
  {
   "version": "2",
   "state": "LOADING",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  },
  {
   "version": "1",
   "state": "END",
   "status": {
    "error_code": "INVALID_ARGUMENT",
    "error_message": "\\u003cé\\u003e"
   }
  }
 ]
}
"""
    )


def test_metadata_is_two_texts_in_one() -> None:
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = "segkit"
    response.model_spec.version.value = 3
    signatures = get_model_metadata_pb2.SignatureDefMap()
    definition = signatures.signature_def["serving_default"]
    definition.method_name = "tensorflow/serving/predict"
    image = definition.inputs["image"]
    image.name, image.dtype = "image:0", tf.uint8.as_datatype_enum
    image.tensor_shape.dim.add(size=-1)
    response.metadata["signature_def"].Pack(signatures)
    body = metadata_body(response).decode()
    assert (
        body
        == """{
"model_spec":{
 "name": "segkit",
 "signature_name": "",
 "version": "3"
}
,
"metadata": {"signature_def": {
 "signature_def": {
  "serving_default": {
   "inputs": {
    "image": {
     "dtype": "DT_UINT8",
     "tensor_shape": {
      "dim": [
       {
        "size": "-1",
        "name": ""
       }
      ],
      "unknown_rank": false
     },
     "name": "image:0"
    }
   },
   "outputs": {},
   "method_name": "tensorflow/serving/predict",
   "defaults": {}
  }
 }
}
}
}
"""
    )


def test_metadata_says_what_protobuf_says(tiny_export: Any) -> None:
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    signatures = get_model_metadata_pb2.SignatureDefMap()
    raw = (tiny_export / "1" / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(raw).meta_graphs[0]
    for name, definition in graph.signature_def.items():
        signatures.signature_def[name].CopyFrom(definition)
    response.metadata["signature_def"].Pack(signatures)
    assert json.loads(metadata_body(response))["metadata"]["signature_def"] == (
        json_format.MessageToDict(
            signatures, including_default_value_fields=True, preserving_proto_field_name=True
        )
    )
