"""The TFDS builder of full_semantic: `cd datasets/full_semantic && tfds build`.

It reads full_semantic.zip from TFDS's manual folder (~/tensorflow_datasets/downloads/manual, or
--manual_dir). What the archive may hold is written in segkit/data/archive.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import gcs_utils

try:
    from segkit.data import full_semantic
except ModuleNotFoundError as err:
    if err.name is None or err.name.split(".")[0] != "segkit":
        raise
    raise ModuleNotFoundError(
        "segkit is not installed beside this tfds. In the repository's root run "
        "'pip install -e .' (any 'make' target does), then this again.",
        name="segkit",
    ) from err

# TFDS asks Google's bucket for every data set that it builds. This one is nobody's but yours.
gcs_utils._is_gcs_disabled = True


class Builder(tfds.core.GeneratorBasedBuilder):
    """Images and masks of full_semantic.zip; the label map travels in the metadata."""

    VERSION = tfds.core.Version(full_semantic.VERSION)
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        full_semantic.VERSION: "rgb, gt, stem; splits by source image."
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = full_semantic.MANUAL_DOWNLOAD_INSTRUCTIONS
    # TFDS cannot find these by itself in a folder without __init__.py.
    pkg_dir_path = tfds.core.Path(__file__).parent
    code_path = tfds.core.Path(__file__)

    def _info(self) -> tfds.core.DatasetInfo:
        return full_semantic.dataset_info(self)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        return full_semantic.split_generators(self, Path(dl_manager.manual_dir))

    def _generate_examples(self):
        raise NotImplementedError("every split comes with its generator, see _split_generators")
