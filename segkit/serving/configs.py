"""TensorFlow Serving's configuration files: protobuf texts, read as that server reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config import model_server_config_pb2

from segkit.errors import ConfigError
from segkit.serving.server_config_pb2 import (
    PlatformConfigMap,
    SavedModelBundleSourceAdapterConfig,
)

__all__ = ["TENSORFLOW", "read_message", "read_platform", "session_config", "single_model"]

TENSORFLOW = "tensorflow"  # the one platform
MessageT = TypeVar("MessageT", bound=Message)


def read_message(path: Path, message_type: type[MessageT]) -> MessageT:
    """Reads a file of protobuf text.

    Raises:
        ConfigError: It cannot be read, or is no such message.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(
            f"the configuration '{path}' cannot be read: {getattr(err, 'strerror', None) or err}",
            expected=f"a {message_type.__name__} as protobuf text",
        ) from err
    try:
        return text_format.Parse(text, message_type())
    except text_format.ParseError as err:
        raise ConfigError(
            f"Invalid protobuf file: '{path}' ({err})",
            expected=f"a {message_type.__name__} as protobuf text",
            next_step="correct that line; python -m segkit serve-config writes such files",
        ) from err


def read_platform(path: Path) -> Any:
    """Reads a --platform_config_file.

    Returns:
        The tensorflow.serving.SessionBundleConfig of the platform "tensorflow".

    Raises:
        ConfigError: It cannot be read, or has no such platform.
    """
    platforms = read_message(path, PlatformConfigMap).platform_configs
    config = SavedModelBundleSourceAdapterConfig()
    if TENSORFLOW not in platforms or not platforms[TENSORFLOW].source_adapter_config.Unpack(
        config
    ):
        raise ConfigError(
            f"'{path}' does not say how the platform 'tensorflow' loads models",
            expected='platform_configs { key: "tensorflow" value { source_adapter_config { '
            "[type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] "
            "{ legacy_config { ... } } } } }",
        )
    return config.legacy_config


def single_model(name: str, base_path: Path) -> Any:
    """The ModelServerConfig of one model, its newest version served."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(
        name=name, base_path=str(base_path.absolute()), model_platform=TENSORFLOW
    )
    return config


def session_config(intra_op_threads: int, inter_op_threads: int, base: Any = None) -> Any:
    """A tensorflow.ConfigProto with so many threads; 0 leaves the number to TensorFlow."""
    config = config_pb2.ConfigProto()
    if base is not None:
        config.CopyFrom(base)
    config.intra_op_parallelism_threads = intra_op_threads
    config.inter_op_parallelism_threads = inter_op_threads
    return config
