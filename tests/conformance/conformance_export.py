"""The models that the conformance tests are about, and the files that a server needs to serve them.

Run as a program it writes them for a server elsewhere, and prints how to start one:

    python tests/conformance/conformance_export.py /srv/conformance

No answer depends on who computes it: the networks pick among whole numbers that bfloat16 holds, so
a test can demand the very bytes of a CPU, a GPU, or an engine that is not TensorFlow.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import numpy.typing as npt

__all__ = [
    "BARE",
    "IMAGE_SIZE",
    "MODELS_CONFIG",
    "MODEL_NAME",
    "MONITORING_CONFIG",
    "expected_class_ids",
    "write_export",
]

UInt8 = npt.NDArray[np.uint8]

MODEL_NAME = "segkit"
BARE = "bare"  # a stock SavedModel: two inputs, one with a default; no check of any shape
IMAGE_SIZE = (64, 96)
MODELS_CONFIG = "models.config"
MONITORING_CONFIG = "monitoring.config"

# Version -> the channel, of RGB, that each class stands for: the brightest channel wins.
CHANNELS = {1: (0, 1, 2), 2: (2, 1, 0), 3: (0, 1, 2)}


def expected_class_ids(version: int, image: UInt8) -> UInt8:
    """What a version says of a uint8 (B, H, W, 3) image."""
    class_ids: UInt8 = image[..., CHANNELS[version]].argmax(axis=-1).astype(np.uint8)
    return class_ids


def write_export(root: Path, *, model_name: str = MODEL_NAME) -> None:
    """Writes `root/<model>/<version>/`, and the two configuration files of the server."""
    from segkit.contract import Metadata
    from segkit.export import publish
    from segkit.labels import Label, LabelMap

    metadata = Metadata(
        labels=LabelMap(
            (Label("red", (255, 0, 0)), Label("green", (0, 255, 0)), Label("blue", (0, 0, 255)))
        ),
        image_size=IMAGE_SIZE,
        architecture="brightest_channel",
        normalization="none",
    )
    base_path = root / model_name
    for version in (1, 2):
        publish(_brightest_channel(version), metadata, base_path, model_name=model_name)
    shutil.copytree(base_path / "1", base_path / "3")
    _write_bare(root / BARE / "1")
    (root / MODELS_CONFIG).write_text(
        f"""model_config_list {{
  config {{
    name: "{model_name}"
    base_path: "{base_path}"
    model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
  }}
  config {{
    name: "{BARE}"
    base_path: "{root / BARE}"
    model_platform: "tensorflow"
  }}
}}
"""
    )
    (root / MONITORING_CONFIG).write_text(
        'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }\n'
    )


def _brightest_channel(version: int) -> Any:
    import tensorflow as tf

    inputs = tf.keras.Input((*IMAGE_SIZE, 3))
    layer = tf.keras.layers.Conv2D(3, 1, use_bias=False)
    model = tf.keras.Model(inputs, layer(inputs))
    # A power of two, so that the products are exact and the confidence is not always 1.
    kernel = np.eye(3, dtype=np.float32)[:, CHANNELS[version]] / 64
    layer.set_weights([kernel[np.newaxis, np.newaxis]])
    return model


def _write_bare(version_dir: Path) -> None:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    def floats(name: str) -> tf.TensorSpec:
        return tf.TensorSpec(None, tf.float32, name=name)

    class Bare(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None, None, 3], tf.uint8, name="image"),
                tf.TensorSpec([None], tf.float32, name="offset"),
            ]
        )
        def serve(self, image: tf.Tensor, offset: tf.Tensor) -> dict[str, tf.Tensor]:
            kernel = tf.ones([1, 1, 3, 1])
            total = tf.nn.conv2d(tf.cast(image, tf.float32), kernel, 1, "VALID")  # (B, H, W, 1)
            text = tf.fill(tf.shape(offset), "é/")
            return {
                "total": tf.squeeze(total, -1),
                "offset": tf.identity(offset),
                "text": text,
                "text_bytes": tf.identity(text),
            }

        @tf.function(input_signature=[floats("value")])
        def echo(self, value: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"value": tf.identity(value)}

        @tf.function(input_signature=[floats("value")])
        def scalar(self, value: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"count": tf.size(value)}

        @tf.function(input_signature=[floats("value")])
        def uneven(self, value: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"once": tf.identity(value), "twice": tf.concat([value, value], 0)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float16, name="value")])
        def half(self, value: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"value": tf.identity(value)}

    module = Bare()
    signatures = {"serving_default": module.serve}
    signatures |= {name: getattr(module, name) for name in ("echo", "scalar", "uneven", "half")}
    tf.saved_model.save(module, str(version_dir), signatures)
    # TensorFlow Serving reads `defaults`; nothing public in TensorFlow 2.15 writes them.
    path = version_dir / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    signature = saved_model.meta_graphs[0].signature_def["serving_default"]
    signature.defaults["offset"].CopyFrom(tf.make_tensor_proto([0.5]))
    path.write_bytes(saved_model.SerializeToString())


def main() -> None:
    """Writes the export of the command line and prints how to serve it."""
    root = Path(sys.argv[1]).absolute()
    write_export(root)
    print(
        f"""
Start the server on the machine that has this folder, then run the tests against it:

docker run --rm -p 8500:8500 -p 8501:8501 -v {root}:{root}:ro tensorflow/serving:2.15.1 \\
  --model_config_file={root / MODELS_CONFIG} --monitoring_config_file={root / MONITORING_CONFIG} \\
  --enable_grpc_healthcheck_service=true --rest_api_enable_cors_support=true \\
  --enable_profiler=false

pytest tests/conformance --server 127.0.0.1:8500 --rest 127.0.0.1:8501 --base_path {root}"""
    )


if __name__ == "__main__":
    main()
