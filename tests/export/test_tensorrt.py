"""The conversion, with TensorFlow's own converter up to where TensorRT comes in (the stand-in)."""

from __future__ import annotations

import gc
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.compiler.tensorrt import trt_convert
from tensorflow.python.trackable.resource import RestoredResource
from tensorflow_serving.apis import prediction_log_pb2
from tensorrt_stand_in import StandIn, install_stand_in, lose_the_engines
from tiny_checkpoints import NAME, add_tiny_network

from segkit import contract
from segkit.client import RemoteSegmenter
from segkit.contract import Metadata
from segkit.engines import Engine, open_engine
from segkit.errors import ExportError
from segkit.export import tensorrt
from segkit.export.tensorrt import (
    FALLBACK,
    ConvertedCore,
    EngineSettings,
    convert_core,
    without_fallback,
    write_served_core,
)
from segkit.export.tensorrt_check import check_batch_sizes
from segkit.labels import LabelMap
from segkit.models import build_model
from segkit.models.graph import float_core
from segkit.models.layers import DepthwiseConv2D
from segkit.serving.server import ModelServer

IMAGE_SIZE = (64, 96)
SETTINGS = EngineSettings(batch_sizes=(1, 2, 4))


@pytest.fixture(scope="module")
def model() -> Any:
    tf.keras.utils.set_random_seed(3)
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_network(patch)
        return build_model(NAME, IMAGE_SIZE, 3, resize="matmul")


@pytest.fixture(scope="module")
def image() -> npt.NDArray[np.uint8]:
    squares = np.random.default_rng(1).integers(0, 256, (2, 8, 12, 3), np.uint8)
    return squares.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    install_stand_in(monkeypatch)


@pytest.fixture(scope="module")
def core(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConvertedCore]:
    with pytest.MonkeyPatch.context() as patch:
        install_stand_in(patch)
        yield convert_core(model, tmp_path_factory.mktemp("core"), SETTINGS)


@pytest.fixture(scope="module")
def metadata(labels: LabelMap) -> Metadata:
    return Metadata(
        labels=labels,
        image_size=IMAGE_SIZE,
        architecture=NAME,
        normalization="RGB / 64 - 2",
        precision="float16",
        tensorrt={"tensorrt": "8.6.1"},
        batch_sizes=SETTINGS.batch_sizes,
    )


@pytest.fixture(scope="module")
def version(
    core: ConvertedCore, metadata: Metadata, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path: Path = tmp_path_factory.mktemp("trt") / "7"
    write_served_core(core, path, metadata, model_name="segkit")
    return path


@pytest.fixture(scope="module")
def engine(version: Path) -> Iterator[Engine]:
    opened = open_engine(version, "tensorflow")
    yield opened
    opened.close()


# === The stand-in refuses what the converter refuses ===


@pytest.mark.parametrize("name", ["convert", "build", "save"])
def test_the_stand_in_takes_what_the_converter_takes(name: str) -> None:
    real = inspect.signature(getattr(trt_convert.TrtGraphConverterV2, name))
    mine = inspect.signature(getattr(StandIn, name))
    required = [p.name for p in real.parameters.values() if p.default is inspect.Parameter.empty]
    assert list(mine.parameters)[: len(required)] == required
    assert issubclass(tf.experimental.tensorrt.Converter, trt_convert.TrtGraphConverterV2)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"precision_mode": "FP8"}, "precision mode 'FP8' is not supported"),
        ({"minimum_segment_size": 0}, "minimum segment size should be positive"),
        (
            {"use_dynamic_shape": True, "dynamic_shape_profile_strategy": "Best"},
            "profile_strategy 'Best' is not supported",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tf.experimental.tensorrt.Converter("anywhere", **arguments)
    with pytest.raises(TypeError):
        tf.experimental.tensorrt.Converter("anywhere", batch_sizes=[1])


@pytest.fixture
def make(stand_in: None, model: Any, tmp_path: Path) -> Any:
    """Makes a converter of the tiny network."""
    holder = tf.Module()
    holder.weights = model.weights
    signatures = {"serving_default": float_core(model)}
    tf.saved_model.save(holder, str(tmp_path / "source"), signatures=signatures)

    def make(precision: str = "FP16") -> Any:
        return tf.experimental.tensorrt.Converter(
            str(tmp_path / "source"),
            precision_mode=precision,
            use_dynamic_shape=True,
            allow_build_at_runtime=False,
        )

    return make


def _images(*shape: int, dtype: Any = np.float32) -> Any:
    return lambda: iter([(np.zeros(shape, dtype),)])


def test_calibration_goes_with_int8_and_int8_with_calibration(make: Any) -> None:
    with pytest.raises(ValueError, match="Should specify calibration_input_fn"):
        make("INT8").convert()
    with pytest.raises(ValueError, match="Should not specify calibration_input_fn"):
        make("FP16").convert(calibration_input_fn=_images(1, 64, 96, 3))


def test_the_order_of_the_calls_is_one(make: Any, tmp_path: Path) -> None:
    converter = make()
    with pytest.raises(RuntimeError, match="before calling"):
        converter.summary()
    with pytest.raises(RuntimeError, match=r"Need to call convert\(\) before build"):
        converter.build(_images(1, 64, 96, 3))
    with pytest.raises(AssertionError):
        converter.save(str(tmp_path / "saved"))
    converter.convert()
    with pytest.raises(AssertionError):
        converter.convert()
    with pytest.raises(RuntimeError, match="input_fn is None"):
        converter.build(None)
    converter.build(_images(1, 64, 96, 3))
    with pytest.raises(NotImplementedError, match="more than once"):
        converter.build(_images(1, 64, 96, 3))


def test_int8_is_built_before_it_is_saved(make: Any, tmp_path: Path) -> None:
    converter = make("INT8")
    converter.convert(calibration_input_fn=_images(2, 64, 96, 3))
    with pytest.raises(RuntimeError, match="has to be built before saving"):
        converter.save(str(tmp_path / "saved"))


@pytest.mark.parametrize(
    "images", [_images(1, 64, 96, 3, dtype=np.uint8), _images(1, 32, 96, 3), _images(64, 96, 3)]
)
def test_other_images_than_those_of_the_graph_are_refused(make: Any, images: Any) -> None:
    converter = make()
    converter.convert()
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError, TypeError)):
        converter.build(images)


def test_calibration_batches_of_two_sizes_are_refused(make: Any) -> None:
    converter = make("INT8")
    batches = [(np.zeros((size, 64, 96, 3), np.float32),) for size in (2, 1)]
    converter.convert(calibration_input_fn=lambda: iter(batches))
    with pytest.raises(RuntimeError, match="TotalBytes"):
        converter.build(_images(1, 64, 96, 3))


def test_an_engine_that_was_not_built_is_no_engine(make: Any, tmp_path: Path) -> None:
    converter = make()
    converter.convert()
    converter.save(str(tmp_path / "saved"))
    assert not list((tmp_path / "saved" / "assets").glob("*"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="disallowed engine native segment"):
        loaded.signatures["serving_default"](tf.zeros((1, 64, 96, 3)))


# === What segkit asks of it ===


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("floating_mode", ["FP32", "FP16"])
def test_every_batch_size_becomes_a_profile_before_the_engine_is_saved(
    model: Any, tmp_path: Path, floating_mode: Any
) -> None:
    settings = EngineSettings(
        floating_mode=floating_mode, batch_sizes=(1, 3), minimum_segment_size=2
    )
    convert_core(model, tmp_path, settings)
    converter = StandIn.last
    assert converter.calls == ["convert", "summary", "build", "save"]
    assert converter.made_with == {
        "input_saved_model_dir": str(tmp_path / "source"),
        "input_saved_model_signature_key": "serving_default",
        "use_dynamic_shape": True,
        "dynamic_shape_profile_strategy": "Range+Optimal",
        "precision_mode": floating_mode,
        "minimum_segment_size": 2,
        "use_calibration": False,
        "allow_build_at_runtime": False,
    }
    assert [batch.shape for (batch,) in converter.fed] == [(1, 64, 96, 3), (3, 64, 96, 3)]
    assert all(batch.dtype == np.float32 for (batch,) in converter.fed)
    assert not converter.calibrated_with
    # The engines are what is wanted; without them each server would build its own.
    assert converter.save_flags.get("save_gpu_specific_engines", True)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("count", "batches"), [(5, [(2, 0), (2, 2)]), (1, [(1, 0)])])
def test_int8_is_calibrated_on_full_batches_of_the_images(
    model: Any, tmp_path: Path, count: int, batches: list[tuple[int, int]]
) -> None:
    images = [np.full((*IMAGE_SIZE, 3), index, np.uint8) for index in range(count)]
    settings = EngineSettings(floating_mode="INT8", batch_sizes=(1, 2))
    convert_core(model, tmp_path, settings, calibration=images)
    converter = StandIn.last
    assert converter.made_with["use_calibration"] is True
    fed = [(len(batch), int(batch[0].max())) for (batch,) in converter.calibrated_with]
    assert fed == batches
    assert all(batch.dtype == np.float32 for (batch,) in converter.calibrated_with)


@pytest.mark.usefixtures("stand_in")
def test_the_workspace_is_the_converters_own_unless_it_is_given(model: Any, tmp_path: Path) -> None:
    settings = EngineSettings(batch_sizes=(1,), workspace_bytes=1 << 28)
    convert_core(model, tmp_path, settings)
    assert StandIn.last.made_with["max_workspace_size_bytes"] == 1 << 28


@pytest.mark.usefixtures("stand_in")
def test_dilated_convolutions_are_run_before_there_is_an_engine(tmp_path: Path) -> None:
    """TF-TRT collects shapes by TensorFlow's own kernels, which take no depthwise dilations."""
    x = inputs = tf.keras.Input((32, 32, 3))
    for rate in (1, 2, 6):
        x = DepthwiseConv2D(3, padding="same", dilation_rate=rate, native=True)(x)
    core = convert_core(tf.keras.Model(inputs, x, name="dilated"), tmp_path, SETTINGS)
    assert core.num_engines == 1


def test_what_was_converted_is_counted(core: ConvertedCore) -> None:
    assert core.num_engines == 1
    assert 0 < core.num_nodes_converted < core.num_nodes
    assert core.render().startswith("1 TensorRT engine built; ")


def test_the_core_answers_as_the_network(core: ConvertedCore, model: Any, image: Any) -> None:
    loaded = tf.saved_model.load(str(core.path))
    (logits,) = loaded.signatures["serving_default"](tf.constant(image, tf.float32)).values()
    np.testing.assert_allclose(logits, model(image.astype(np.float32)), atol=1e-4)


def test_nothing_is_built_at_run_time(version: Path) -> None:
    nodes = [node for node in _nodes(version) if node.name.startswith("TRTEngineOp")]
    flags = [node.attr["_allow_build_at_runtime"] for node in nodes if node.op != "NoOp"]
    assert flags and not any(flag.b for flag in flags if flag.HasField("b"))
    assert any(flag.HasField("b") for flag in flags)


def test_the_arg_max_is_outside_of_the_engine(version: Path) -> None:
    graph = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    library = graph.meta_graphs[0].graph_def.library.function
    inside = [f for f in library if "native_segment" in f.signature.name]
    assert inside
    for function in inside:
        assert not {"ArgMax", "Cast", "EnsureShape"} & {node.op for node in function.node_def}


def _nodes(version: Path) -> list[Any]:
    graph = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    functions = graph.meta_graphs[0].graph_def.library.function
    return [node for function in functions for node in function.node_def]


# === What it makes of failures ===


@pytest.mark.usefixtures("stand_in")
def test_a_network_without_an_engine_is_refused(model: Any, tmp_path: Path) -> None:
    settings = EngineSettings(batch_sizes=(1,), minimum_segment_size=1000)
    with pytest.raises(ExportError, match="1000 nodes that convert") as caught:
        convert_core(model, tmp_path, settings)
    assert "--minimum_segment_size" in caught.value.next_step


@pytest.mark.usefixtures("stand_in")
def test_engines_that_were_not_saved_are_missed(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_engines(monkeypatch)
    with pytest.raises(ExportError, match="built 0 of 1 engines") as caught:
        convert_core(model, tmp_path, SETTINGS)
    assert "--batch_sizes" in caught.value.next_step


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    "err",
    [
        tf.errors.AbortedError(None, None, "User disallowed engine native segment execution"),
        RuntimeError("Incompatible TensorRT major version"),
        ValueError("Specified device is not a GPU: CPU:0"),
    ],
)
def test_what_the_converter_raises_is_a_message(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, err: Exception
) -> None:
    def fail(self: Any, input_fn: Any) -> None:
        raise err

    monkeypatch.setattr(StandIn, "build", fail)
    words = getattr(err, "message", None) or str(err)
    with pytest.raises(ExportError, match=f"cannot convert tiny: {words}") as caught:
        convert_core(model, tmp_path, SETTINGS)
    assert "--workspace_mib" in caught.value.next_step


@pytest.mark.usefixtures("stand_in")
def test_a_summary_of_another_form_is_not_guessed_at(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandIn, "summary", lambda self, **kwargs: None)
    with pytest.raises(ExportError, match="summary does not say") as caught:
        convert_core(model, tmp_path, SETTINGS)
    assert "requirements.txt" in caught.value.next_step


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("before", [None, "true"])
def test_tf_trt_may_not_fall_back_while_engines_are_built(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.delenv(FALLBACK, raising=False)
    if before is not None:
        monkeypatch.setenv(FALLBACK, before)
    during = []
    monkeypatch.setattr(
        StandIn, "save", lambda self, *args: during.append(os.environ.get(FALLBACK))
    )
    with pytest.raises(ExportError):
        convert_core(model, tmp_path, SETTINGS)
    assert during == ["false"]
    assert os.environ.get(FALLBACK) == before
    with pytest.raises(KeyError), without_fallback():
        raise KeyError
    assert os.environ.get(FALLBACK) == before


# === The four signatures round it ===


def test_the_signatures_are_those_of_the_contract(engine: Engine) -> None:
    assert set(engine.signatures) == set(contract.SIGNATURES)
    sizes = {"H": IMAGE_SIZE[0], "W": IMAGE_SIZE[1]}
    for name, signature in contract.SIGNATURES.items():
        spec = engine.signatures[name]
        outputs = {tensor.name: tensor for tensor in signature.outputs}
        for tensor, is_there in [
            (signature.input, spec.inputs[signature.input.name]),
            *((outputs[output], spec.outputs[output]) for output in outputs),
        ]:
            assert is_there.shape == (None, *(sizes.get(str(s), s) for s in tensor.shape))
            assert is_there.dtype == tensor.dtype


def test_they_answer_as_the_network(engine: Engine, model: Any, image: Any) -> None:
    expected = np.argmax(model(image.astype(np.float32)), axis=-1)
    for name in ("serving_default", "confidence"):
        np.testing.assert_array_equal(engine.run(name, {"image": image})["class_ids"], expected)
    for size in SETTINGS.batch_sizes:
        check_batch_sizes(engine, image[0], [size], min_agreement=1.0)


def test_describe_and_the_file_carry_the_metadata(
    engine: Engine, version: Path, metadata: Metadata
) -> None:
    (text,) = engine.run("describe", {"query": np.array([b""], object)})["metadata"]
    assert Metadata.from_json(text, source="describe") == metadata
    assert engine.metadata == metadata


def test_there_is_a_warmup_record_for_every_signature_and_batch_size(version: Path) -> None:
    seen = set()
    for record in tf.data.TFRecordDataset(str(version / contract.WARMUP_FILE)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        (batch,) = (tf.make_ndarray(value) for value in request.inputs.values())
        seen.add((request.model_spec.signature_name, len(batch)))
    assert seen == {(name, size) for name in contract.SIGNATURES for size in SETTINGS.batch_sizes}


def test_a_server_replays_the_records_and_serves_it(version: Path, model: Any, image: Any) -> None:
    with (
        ModelServer.of("segkit", version.parent) as server,
        RemoteSegmenter(server.address, "segkit") as remote,
    ):
        masks = remote.segment(image)
        assert remote.describe().tensorrt == {"tensorrt": "8.6.1"}
    np.testing.assert_array_equal(masks, np.argmax(model(image.astype(np.float32)), axis=-1))


def test_the_engines_come_along_and_can_be_loaded_again(version: Path, image: Any) -> None:
    (file,) = (version / "assets").iterdir()
    assert file.name.startswith("trt-serialized-engine.TRTEngineOp_")
    for _ in range(2):
        loaded = tf.saved_model.load(str(version))
        loaded.signatures["serving_default"](image=tf.constant(image))
        del loaded
        gc.collect()


@pytest.mark.usefixtures("stand_in")
def test_nothing_is_left_that_would_destroy_engines_later(
    core: ConvertedCore, metadata: Metadata, tmp_path: Path
) -> None:
    gc.collect()
    before = sum(isinstance(thing, RestoredResource) for thing in gc.get_objects())
    write_served_core(core, tmp_path / "1", metadata, model_name="segkit")
    assert sum(isinstance(thing, RestoredResource) for thing in gc.get_objects()) == before


# === The check at every batch size ===


def test_an_engine_that_is_missing_fails_the_check(version: Path, image: Any) -> None:
    (file,) = (version / "assets").iterdir()
    content = file.read_bytes()
    file.write_bytes(b"")
    opened = open_engine(version, "tensorflow")
    try:
        with pytest.raises(ExportError, match="'serving_default' fails at a batch size of 1") as e:
            check_batch_sizes(opened, image[0], [1], min_agreement=0.99)
    finally:
        file.write_bytes(content)
        opened.close()
    assert "disallowed engine native segment" in str(e.value)
    assert "--workspace_mib" in e.value.next_step


class _OddBatches:
    """An engine that answers otherwise to batches of two."""

    def __init__(self, engine: Engine) -> None:
        self.signatures, self.metadata, self._engine = engine.signatures, engine.metadata, engine

    def run(self, signature: str, inputs: Any, **kwargs: Any) -> Any:
        answers = self._engine.run(signature, inputs, **kwargs)
        odd = len(next(iter(inputs.values()))) == 2
        return {name: (answer + odd) if odd else answer for name, answer in answers.items()}

    def close(self) -> None:
        pass


def test_a_batch_that_is_answered_otherwise_fails_the_check(engine: Engine, image: Any) -> None:
    with pytest.raises(ExportError, match=r"a batch of 2 .* on only 0.00%") as caught:
        check_batch_sizes(_OddBatches(engine), image[0], [1, 2], min_agreement=0.99)
    assert "99.00%" in caught.value.expected
    assert "--floating_mode" in caught.value.next_step


def test_the_profiles_are_written_down_in_words() -> None:
    assert SETTINGS.profiles((480, 640)) == "Range+Optimal: batch 1, 2, 4; 1 to 4; at 480x640"
    assert tensorrt.PRECISIONS["INT8"] == "int8"
