from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from segkit.export import tensorrt_preflight
from segkit.export.tensorrt_preflight import Preflight, preflight


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine that has everything; what is asked of TensorRT is counted."""
    asked: list[str] = []
    library = SimpleNamespace(
        get_linked_tensorrt_version=lambda: (8, 6, 1),
        get_loaded_tensorrt_version=lambda: asked.append("loaded") or (8, 6, 1),
        is_tensorrt_enabled=lambda: True,
    )
    monkeypatch.setattr(tensorrt_preflight, "_pywrap_py_utils", library)
    monkeypatch.setattr(tensorrt_preflight, "_why_not_loaded", lambda name: "")
    monkeypatch.setattr(tensorrt_preflight, "_gpus", lambda: ["GPU:0"])
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda gpu: {"device_name": "NVIDIA A10", "compute_capability": (8, 6)},
    )
    return SimpleNamespace(library=library, asked=asked)


def test_the_machine_is_written_down(complete: Any) -> None:
    found = preflight()
    assert found.missing == ()
    built = tf.sysconfig.get_build_info()
    assert found.machine == {
        "tensorrt": "8.6.1",
        "cuda": built["cuda_version"],
        "cudnn": built["cudnn_version"],
        "gpu": "NVIDIA A10",
        "compute_capability": "8.6",
    }
    assert found.render() == (
        f"preflight: TensorRT 8.6.1, CUDA {built['cuda_version']}, cuDNN {built['cudnn_version']}, "
        "NVIDIA A10 of compute capability 8.6"
    )


@pytest.mark.parametrize("absent", ["libnvinfer.so.8.6.1", "libnvinfer_plugin.so.8.6.1"])
def test_a_library_that_is_not_there_is_named_and_tensorrt_not_asked(
    complete: Any, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    monkeypatch.setattr(
        tensorrt_preflight, "_why_not_loaded", lambda name: "No such file" * (name == absent)
    )
    found = preflight()
    assert found.missing == (f"{absent} is not found (No such file)",)
    assert found.machine == {}
    assert complete.asked == []
    assert found.render().splitlines() == [
        "preflight: this machine cannot convert",
        f"  {absent} is not found (No such file)",
    ]


def test_a_missing_gpu_is_named(complete: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_preflight, "_gpus", list)
    assert preflight() == Preflight(missing=("TensorFlow sees no GPU",))
    assert complete.asked == []


def test_a_library_that_tensorflow_cannot_load_is_named(complete: Any) -> None:
    complete.library.is_tensorrt_enabled = lambda: False
    (sentence,) = preflight().missing
    assert "8.6.1 is there, but TensorFlow cannot load it" in sentence
    assert complete.asked == []


def test_a_tensorflow_without_tf_trt_is_named(complete: Any) -> None:
    complete.library.get_linked_tensorrt_version = lambda: (0, 0, 0)
    (sentence,) = preflight().missing
    assert "without TF-TRT" in sentence and "tensorflow==2.15.1" in sentence


def test_the_loader_says_why() -> None:
    assert "No such file" in tensorrt_preflight._why_not_loaded("libsegkit_nowhere.so.1")
    assert tensorrt_preflight._why_not_loaded("libc.so.6") == ""


def test_it_never_ends_the_process() -> None:
    """On any machine: TensorFlow's own question for the version would, without TensorRT."""
    code = "from segkit.export.tensorrt_preflight import preflight; print(preflight().render())"
    reply = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert reply.returncode == 0, reply.stderr
    assert reply.stdout.startswith("preflight: ")
