from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from segkit import contract
from segkit.contract import Metadata
from segkit.engines import Code, Engine, StatusError, open_engine
from segkit.errors import ConfigError, ContractMismatch, ExportError

IMAGE = np.random.default_rng(2).integers(0, 256, (2, 64, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def engine(tiny_export: Path) -> Iterator[Engine]:
    engine = open_engine(tiny_export / "1")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def foreign_version(tmp_path_factory: Any) -> Path:
    """A convolution as other people export it: nothing in the graph checks the image's shape."""
    kernel = tf.ones([1, 1, 3, 1])

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="x")])
    def score(x: Any) -> Any:
        return {"score": tf.nn.conv2d(x, kernel, 1, "SAME")}

    module = tf.Module()
    module.score = score
    path: Path = tmp_path_factory.mktemp("foreign") / "1"
    tf.saved_model.save(module, str(path), signatures={"serving_default": score})
    return path


@pytest.fixture
def copy(tiny_export: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_export / "1", tmp_path / "1"))


def failure(engine: Engine, signature: str, **inputs: Any) -> StatusError:
    with pytest.raises(StatusError) as caught:
        engine.run(signature, inputs)
    return caught.value


def test_signatures_are_those_of_the_contract(engine: Engine) -> None:
    assert set(engine.signatures) == set(contract.SIGNATURES)
    spec = engine.signatures["serving_default"]
    assert spec.inputs["image"].dtype == "uint8"
    assert spec.inputs["image"].shape == (None, 64, 96, 3)
    assert spec.outputs["class_ids"].shape == (None, 64, 96)
    assert engine.signatures["describe"].inputs["query"].dtype == "string"


def test_class_ids_are_those_of_the_model(engine: Engine, tiny_model: Any) -> None:
    ids = engine.run("serving_default", {"image": IMAGE})["class_ids"]
    expected = np.argmax(tiny_model(IMAGE.astype(np.float32)), axis=-1)
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, expected)


def test_only_the_outputs_asked_for_are_computed(engine: Engine) -> None:
    result = engine.run("confidence", {"image": IMAGE}, outputs=["confidence"])
    assert {name: value.shape for name, value in result.items()} == {"confidence": (2, 64, 96)}


def test_metadata_is_read_beside_the_model(
    engine: Engine, tiny_metadata: Metadata, foreign_version: Path
) -> None:
    assert engine.metadata == tiny_metadata
    other = open_engine(foreign_version)
    assert other.metadata is None
    other.close()


def test_strings_are_object_arrays_of_bytes(engine: Engine, tiny_metadata: Metadata) -> None:
    texts = engine.run("describe", {"query": np.array([b"", b"?"], object)})["metadata"]
    assert texts.dtype == object
    assert texts.tolist() == [tiny_metadata.to_json().encode()] * 2


def test_threads_share_an_engine(engine: Engine) -> None:
    images = [IMAGE, 255 - IMAGE] * 8
    expected = [engine.run("serving_default", {"image": image})["class_ids"] for image in images]
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda image: engine.run("serving_default", {"image": image}), images)
        for result, ids in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result["class_ids"], ids)


@pytest.mark.parametrize("shape", [(64, 96, 3), (), (1, 1, 64, 96, 3), (1, 60, 96, 3)])
def test_a_wrong_shape_fails_with_the_text_of_the_graphs_own_check(
    engine: Engine, shape: tuple[int, ...]
) -> None:
    error = failure(engine, "serving_default", image=np.zeros(shape, np.uint8))
    assert error.code == Code.INVALID_ARGUMENT
    sizes = ",".join(map(str, shape))
    assert error.message.startswith(
        f"Shape of tensor _arg_serving_default_image_0_0 [{sizes}] "
        "is not compatible with expected shape [?,64,96,3].\n\t [[{{function_node __inference_"
    )
    assert error.message.endswith("{{node EnsureShape}}]]")


def test_a_wrong_dtype_fails_with_the_text_of_tensorflow(engine: Engine) -> None:
    error = failure(engine, "serving_default", image=IMAGE.astype(np.float32))
    assert str(error) == "INVALID_ARGUMENT: Expects arg[0] to be uint8 but float is provided"


def test_undecodable_images_fail_with_the_text_of_tensorflow(engine: Engine) -> None:
    error = failure(engine, "encoded", encoded_image=np.array([b"GIF?"], object))
    assert error.code == Code.INVALID_ARGUMENT
    assert error.message.startswith(
        "Unknown image file format. One of JPEG, PNG, GIF, BMP required.\n\t [[{{"
    )


def test_a_run_over_its_time_is_given_up(engine: Engine) -> None:
    many = np.zeros((2000, 64, 96, 3), np.uint8)
    with pytest.raises(StatusError) as caught:
        engine.run("serving_default", {"image": many}, timeout_s=0.001)
    assert caught.value.code == Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize("shape", [(4, 4, 3), (), (1, 1, 4, 4, 3)])
def test_a_wrong_rank_that_the_graph_does_not_check_does_not_abort_the_process(
    foreign_version: Path, shape: tuple[int, ...]
) -> None:
    engine = open_engine(foreign_version)
    error = failure(engine, "serving_default", x=np.zeros(shape, np.float32))
    assert error.code == Code.INVALID_ARGUMENT
    assert "is not compatible with expected shape [?,?,?,3]." in error.message
    good = engine.run("serving_default", {"x": np.ones((1, 4, 4, 3), np.float32)})
    assert good["score"].shape == (1, 4, 4, 1)
    engine.close()


def test_other_dimensions_are_left_to_the_graph(foreign_version: Path) -> None:
    engine = open_engine(foreign_version)
    error = failure(engine, "serving_default", x=np.zeros((1, 4, 4, 4), np.float32))
    assert error.message.startswith("input depth must be evenly divisible by filter depth: 4 vs 3")
    engine.close()


def test_tensorrt_engines_are_refused_without_a_gpu(copy: Path) -> None:
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    path = copy / "saved_model.pb"
    saved = SavedModel.FromString(path.read_bytes())
    saved.meta_graphs[0].graph_def.node.add(name="trt", op="CreateTRTResourceHandle")
    path.write_bytes(saved.SerializeToString())
    with pytest.raises(ExportError, match=r"holds TensorRT engines, and .* no GPU") as caught:
        open_engine(copy)
    assert "tensorflow/serving:2.15.1-gpu" in caught.value.expected


@pytest.mark.parametrize("damage", ["not a SavedModel", "no variables", "cut variables", "empty"])
def test_a_damaged_version_is_refused(copy: Path, damage: str) -> None:
    if damage == "not a SavedModel":
        (copy / "saved_model.pb").write_bytes(b"\xff\xff not a protobuf")
    elif damage == "no variables":
        shutil.rmtree(copy / "variables")
    elif damage == "cut variables":
        data = copy / "variables/variables.data-00000-of-00001"
        data.write_bytes(data.read_bytes()[:-100])
    else:
        (copy / "saved_model.pb").unlink()
    with pytest.raises(ExportError, match="cannot be loaded") as caught:
        open_engine(copy)
    assert str(copy) in caught.value.problem
    assert "segkit export" in caught.value.next_step


def test_a_record_that_is_not_segkits_is_refused(copy: Path) -> None:
    (copy / contract.METADATA_FILE).write_text("{}")
    with pytest.raises(ContractMismatch, match=r"segkit\.json"):
        open_engine(copy)


def test_an_unknown_engine_is_refused_with_the_known_ones(tiny_export: Path) -> None:
    with pytest.raises(ConfigError, match="no engine .tensorrt.") as caught:
        open_engine(tiny_export / "1", "tensorrt")
    assert caught.value.expected.startswith("ENGINE or ENGINE:PRECISION")


def test_a_version_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not exist"):
        open_engine(tmp_path / "3")


def test_closing_frees_the_graph_at_once(tiny_export: Path) -> None:
    engine: Any = open_engine(tiny_export / "1", "tensorflow")
    graph = weakref.ref(engine._session.graph)
    assert graph() is not None
    engine.close()
    assert graph() is None
