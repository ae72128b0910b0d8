"""From a Keras model to a version that TensorFlow Serving loads."""

from segkit.export.checkpoint import export_checkpoint
from segkit.export.publish import publish

__all__ = ["export_checkpoint", "publish"]
