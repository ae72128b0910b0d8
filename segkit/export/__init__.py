"""From a Keras model to a version that TensorFlow Serving loads."""

from segkit.export.publish import publish

__all__ = ["publish"]
