from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis import prediction_log_pb2

from segkit import contract
from segkit.contract import Metadata
from segkit.errors import ExportError
from segkit.export import publish
from segkit.labels import LabelMap

DTYPES = {"uint8": tf.uint8, "string": tf.string}


@pytest.fixture(scope="module")
def version(tiny_export: Path) -> Path:
    return tiny_export / "1"


@pytest.fixture(scope="module")
def loaded(version: Path) -> Any:
    return tf.saved_model.load(str(version))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3), np.uint8)


def test_signatures_are_those_of_the_contract(loaded: Any) -> None:
    assert set(loaded.signatures) == set(contract.SIGNATURES)
    for name, signature in contract.SIGNATURES.items():
        function = loaded.signatures[name]
        sizes = {"H": 64, "W": 96}
        (spec,) = function.structured_input_signature[1].values()
        for tensor, exported in [
            (signature.input, spec),
            *((output, function.structured_outputs[output.name]) for output in signature.outputs),
        ]:
            assert exported.dtype == DTYPES[tensor.dtype]
            if tensor.dtype != "string":
                assert exported.shape.as_list() == [None, *(sizes.get(s, s) for s in tensor.shape)]
            assert exported.shape.rank == 1 + len(tensor.shape)
        assert spec.name == signature.input.name
        assert set(function.structured_outputs) == {output.name for output in signature.outputs}


def test_class_ids_are_the_argmax_of_the_model(
    loaded: Any, tiny_model: Any, image: np.ndarray
) -> None:
    reply = loaded.signatures[contract.DEFAULT_SIGNATURE](image=tf.constant(image))
    expected = np.argmax(tiny_model(image.astype(np.float32)), axis=-1)
    np.testing.assert_array_equal(reply[contract.CLASS_IDS], expected)


def test_confidence_is_the_winners_probability(
    loaded: Any, tiny_model: Any, image: np.ndarray
) -> None:
    reply = loaded.signatures["confidence"](image=tf.constant(image))
    expected = tf.reduce_max(tf.nn.softmax(tiny_model(image.astype(np.float32))), axis=-1)
    np.testing.assert_allclose(reply[contract.CONFIDENCE], expected * 255, atol=0.51)


def test_encoded_answers_at_the_size_of_its_image(loaded: Any) -> None:
    images = [np.full((50, 70, 3), 200, np.uint8), np.full((130, 200, 3), 20, np.uint8)]
    encoded = tf.constant(
        [tf.io.encode_jpeg(images[0]).numpy(), tf.io.encode_png(images[1]).numpy()]
    )
    masks = loaded.signatures["encoded"](encoded_image=encoded)[contract.ENCODED_MASK]
    assert [tf.io.decode_png(mask).shape for mask in masks] == [(50, 70, 1), (130, 200, 1)]


def test_describe_and_the_file_carry_the_metadata(
    loaded: Any, version: Path, tiny_metadata: Metadata
) -> None:
    replies = loaded.signatures["describe"](query=tf.constant(["", "?"]))[contract.METADATA]
    assert len(replies) == 2
    for text in (*replies.numpy(), (version / contract.METADATA_FILE).read_bytes()):
        assert Metadata.from_json(text, source="test") == tiny_metadata


def test_every_image_signature_checks_the_shape_before_anything_else(version: Path) -> None:
    saved = SavedModel.FromString((version / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    with_shape_check = [
        function.signature.name
        for function in functions
        if any(node.op == "EnsureShape" for node in function.node_def)
    ]
    for part in ("segment_", "segment_with_confidence", "segment_encoded", "describe"):
        assert any(part in name for name in with_shape_check)


def test_warmup_has_a_record_for_every_signature_and_batch_size(
    tiny_model: Any, tiny_metadata: Metadata, tmp_path: Path
) -> None:
    metadata = replace(tiny_metadata, batch_sizes=(1, 2))
    version = publish(tiny_model, metadata, tmp_path / "m")
    seen = set()
    for record in tf.data.TFRecordDataset(str(version / contract.WARMUP_FILE)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        (batch,) = (tf.make_ndarray(value) for value in request.inputs.values())
        seen.add((request.model_spec.signature_name, len(batch)))
    assert seen == {(name, size) for name in contract.SIGNATURES for size in (1, 2)}


def test_versions_count_up_and_leave_nothing_beside_them(
    tiny_model: Any, tiny_metadata: Metadata, tmp_path: Path
) -> None:
    (tmp_path / "7").mkdir()
    assert publish(tiny_model, tiny_metadata, tmp_path).name == "8"
    assert sorted(child.name for child in tmp_path.iterdir()) == ["7", "8"]


def test_another_class_count_is_refused_and_nothing_written(
    tiny_model: Any, tiny_metadata: Metadata, tmp_path: Path
) -> None:
    five = replace(tiny_metadata, labels=LabelMap.from_names("abcde"))
    with pytest.raises(ExportError, match=r"3 classes.* 5"):
        publish(tiny_model, five, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_another_image_size_is_refused(
    tiny_model: Any, tiny_metadata: Metadata, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"\(64, 96\).*\(32, 32\)"):
        publish(tiny_model, replace(tiny_metadata, image_size=(32, 32)), tmp_path)


def test_a_version_that_answers_otherwise_is_not_published(
    tiny_model: Any, tiny_metadata: Metadata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "segkit.export.served._class_ids",
        lambda logits: tf.cast(tf.argmin(logits, axis=-1), tf.uint8),
    )
    with pytest.raises(ExportError, match="agrees with the model on only"):
        publish(tiny_model, tiny_metadata, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_metadata_is_plain_json(tiny_metadata: Metadata) -> None:
    record = json.loads(tiny_metadata.to_json())
    assert record["labels"][1] == {"id": 1, "name": "road", "color": [128, 64, 128]}
    assert record["ignore_id"] == 255
