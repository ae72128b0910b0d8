"""The commands. Each module holds `Options` and `run(options)`; nothing else knows about flags."""

from __future__ import annotations

__all__ = ["COMMANDS"]

# Command -> its line in `python -m segkit --help`. The module has the command's name, with _ for -.
COMMANDS = {
    "prepare": "pack a labelled set into full_semantic.zip",
    "check-data": "say all that is wrong with a labelled set, before it is trained on",
    "train": "train a network, or export a checkpoint (--saved_model)",
    "eval": "measure a checkpoint, an export or a running server",
    "export": "publish a checkpoint as the next version of a served model, proved",
    "verify": "say whether two forms of a model answer the same on real images",
    "benchmark-export": "set all forms of a checkpoint side by side: size, accuracy, speed",
    "serve": "serve published versions as tensorflow/serving does, on this machine",
    "serve-config": "write the containers' configuration from what was published, checked",
    "rollout": "bring a version into service on a running server, checked, compared and labelled",
    "rollback": "undo the last roll-out",
    "predict-realtime": "segment a camera or a network stream, the newest frame first",
    "predict-video": "segment a video file by a model server",
    "load": "load a model server as cameras do: latency, missed frames, how many cameras it holds",
    "import-torch": "turn the authors' PyTorch weights into a checkpoint",
    "tensorrt-report": "predict how TF-TRT will split a network, without TensorRT",
    "convert-to-tensorrt": "build TensorRT engines of a model, proved on real images",
    "profile": "parameters, MACs, memory and latency of a network",
    "make-blank-label": "write all-background masks for images that have none",
    "augment-data": "write altered copies of a labelled set's images",
    "demo": "the whole line on generated street scenes, or on your own data",
}
