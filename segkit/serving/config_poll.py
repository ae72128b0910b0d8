"""ConfigPoll: looks at --model_config_file again and again, and serves by it when it changes."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from segkit.engines import StatusError
from segkit.errors import ConfigError
from segkit.serving.configs import read_message
from segkit.serving.models import Models

__all__ = ["ConfigPoll"]

logger = logging.getLogger(__name__)


class ConfigPoll:
    """A thread that applies the file's changes.

    What is wrong with them is logged, and what was served before goes on.

    Args:
        path: The file, a ModelServerConfig as protobuf text.
        models: What is served by it.
        seconds: Between two looks.
    """

    def __init__(self, path: Path, models: Models, seconds: float) -> None:
        self._path, self._models, self._seconds = path, models, seconds
        self._served = path.read_bytes()
        self._logged = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="config-poll", daemon=True)

    def start(self) -> None:
        """Starts to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stops to look."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                text = self._path.read_bytes()
                if text == self._served:
                    continue
                self._served = text
                config = read_message(self._path, ModelServerConfig)
                self._models.reload(config.model_config_list, timeout_s=self._seconds)
            except (OSError, ConfigError, StatusError) as err:
                if str(err) != self._logged:  # once, not at every look
                    logger.error("%s is not served by: %s", self._path, err)
                self._logged = str(err)
            else:
                self._logged = ""
