"""Warm-up records: requests that TensorFlow Serving replays before a version is AVAILABLE."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from segkit import contract

__all__ = ["write_warmup_records"]


def write_warmup_records(
    path: Path, *, image_size: tuple[int, int], model_name: str, batch_sizes: Sequence[int]
) -> None:
    """Writes one record for each signature and batch size.

    Args:
        path: `<version>/assets.extra/tf_serving_warmup_requests`.
        image_size: Height and width of `image`.
        model_name: The name in the records' model_spec. TensorFlow Serving ignores it.
        batch_sizes: Every batch size that will be served: each one's first run is slow otherwise.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    blank = np.zeros((*image_size, 3), np.uint8)
    inputs = {
        contract.IMAGE: blank,
        contract.ENCODED_IMAGE: tf.io.encode_jpeg(blank).numpy(),
        contract.QUERY: b"",
    }
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in contract.SIGNATURES.values():
            for batch_size in batch_sizes:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = model_name
                request.model_spec.signature_name = signature.name
                batch = np.stack([np.asarray(inputs[signature.input.name])] * batch_size)
                request.inputs[signature.input.name].CopyFrom(tf.make_tensor_proto(batch))
                log = prediction_log_pb2.PredictionLog()
                log.predict_log.request.CopyFrom(request)
                writer.write(log.SerializeToString())
