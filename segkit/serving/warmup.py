"""Warm-up: the recorded requests that run before a version is AVAILABLE."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from segkit import contract
from segkit.engines import Code, StatusError
from segkit.serving.predict import predict
from segkit.serving.servable import Servable

__all__ = ["replay_warmup"]

logger = logging.getLogger(__name__)

MAX_RECORDS = 1000  # TensorFlow Serving's


def replay_warmup(servable: Servable, version_dir: Path, *, iterations: int = 1) -> int:
    """Runs the version's warm-up records, if it has any.

    Args:
        servable: The version, loaded.
        version_dir: Its folder.
        iterations: How often each record is run.

    Returns:
        How many were run.

    Raises:
        StatusError: A record failed or cannot be read, or there are more than MAX_RECORDS.
    """
    path = version_dir / contract.WARMUP_FILE
    if not path.is_file():
        logger.info("no warm-up records at %s", path)
        return 0
    count = 0
    for count, log in enumerate(_records(path), start=1):
        if count > MAX_RECORDS:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}",
            )
        kind = log.WhichOneof("log_type")
        if kind == "predict_log":
            for _ in range(iterations):
                predict(servable, log.predict_log.request)
        elif kind is not None:
            raise StatusError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")
    return count


def _records(path: Path) -> Iterator[Any]:
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield prediction_log_pb2.PredictionLog.FromString(record)
    except tf.errors.OpError as err:
        raise StatusError(
            Code.DATA_LOSS,
            f"{err.message}. Please verify your warmup data is in TFRecord format.",
        ) from err
    except DecodeError as err:
        raise StatusError(
            Code.INVALID_ARGUMENT, f"Failed to parse warmup record from {path}"
        ) from err
