"""The commands. Each module holds `Options` and `run(options)`; nothing else knows about flags."""

from __future__ import annotations

__all__ = ["COMMANDS"]

# Command -> its line in `python -m segkit --help`. The module has the command's name, with _ for -.
COMMANDS = {
    "prepare": "pack a labelled set into full_semantic.zip",
    "train": "train a network, or export a checkpoint (--saved_model)",
    "eval": "measure a checkpoint on the val split",
    "export": "publish a checkpoint as the next version of a served model",
    "serve": "serve published versions as tensorflow/serving does, on this machine",
    "predict-video": "segment a video file by a model server",
    "demo": "the whole line on generated street scenes, or on your own data",
}
