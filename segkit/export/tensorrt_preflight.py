"""preflight(): whether this machine can convert to TensorRT, asked without touching TensorRT.

TensorFlow loads TensorRT at the first call that needs it, and some of those calls end the process
where it is missing (`get_loaded_tensorrt_version`: "getInferLibVersion symbol not found"). So the
libraries are looked for by the dynamic loader first, under the names that TensorFlow uses.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils

__all__ = ["Preflight", "preflight"]

LIBRARIES = ("libnvinfer.so", "libnvinfer_plugin.so")


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What was found.

    Attributes:
        missing: What a conversion needs and this machine does not have, a sentence each.
        machine: Versions of TensorRT, CUDA and cuDNN, name and compute capability of the GPU;
            empty where something is missing. An engine runs on these alone.
    """

    missing: tuple[str, ...] = ()
    machine: Mapping[str, str] = field(default_factory=dict)

    def render(self) -> str:
        """The findings as text for people."""
        if self.missing:
            return "\n  ".join(("preflight: this machine cannot convert", *self.missing))
        return (
            "preflight: TensorRT {tensorrt}, CUDA {cuda}, cuDNN {cudnn}, {gpu} of compute "
            "capability {compute_capability}".format_map(self.machine)
        )


def preflight() -> Preflight:
    """Looks for TensorRT and a GPU; writes nothing and never ends the process."""
    version = ".".join(map(str, _pywrap_py_utils.get_linked_tensorrt_version()))
    if version == "0.0.0":
        return Preflight(
            missing=("this TensorFlow was built without TF-TRT: install tensorflow==2.15.1",)
        )
    missing = [
        f"{name}.{version} is not found ({why})"
        for name in LIBRARIES
        if (why := _why_not_loaded(f"{name}.{version}"))
    ]
    gpus = _gpus()
    if not gpus:
        missing.append("TensorFlow sees no GPU")
    if not missing and not _pywrap_py_utils.is_tensorrt_enabled():
        missing.append(f"TensorRT {version} is there, but TensorFlow cannot load it")
    return Preflight(missing=tuple(missing), machine={} if missing else _machine(gpus[0]))


def _why_not_loaded(library: str) -> str:
    """The loader's reason, or "" where the library is there."""
    try:
        ctypes.CDLL(library)
    except OSError as err:
        return str(err).removeprefix(f"{library}: ")
    return ""


def _gpus() -> list[Any]:
    return list(tf.config.list_physical_devices("GPU"))


def _machine(gpu: Any) -> dict[str, str]:
    """To be asked only where TensorRT is known to be there."""
    built = tf.sysconfig.get_build_info()
    details = tf.config.experimental.get_device_details(gpu)
    return {
        "tensorrt": ".".join(map(str, _pywrap_py_utils.get_loaded_tensorrt_version())),
        "cuda": str(built.get("cuda_version", "unknown")),
        "cudnn": str(built.get("cudnn_version", "unknown")),
        "gpu": str(details.get("device_name", "unknown")),
        "compute_capability": ".".join(map(str, details.get("compute_capability", ("unknown",)))),
    }
