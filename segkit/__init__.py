"""Real-time semantic segmentation behind TensorFlow Serving, from CVAT labels to live video."""

__version__ = "0.1.0"
