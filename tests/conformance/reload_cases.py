"""What HandleReloadConfigRequest refuses, before it changes anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance_export import BARE
from grpc_requests import INVALID, RELOAD, GrpcCase
from reloading import model_config, reload_request
from tensorflow_serving.apis import model_management_pb2

__all__ = ["RELOAD_CASES"]

NOT_A_LIST = (
    "ServerModelConfig type not supported by HandleReloadConfigRequest."
    " Only ModelConfigList is currently supported"
)


def _case(row: str, request: Callable[[str], Any], message: str) -> GrpcCase:
    return GrpcCase(row, RELOAD, request, INVALID, message)


RELOAD_CASES = (
    _case(
        "not a list",
        lambda model: model_management_pb2.ReloadConfigRequest(config={"custom_model_config": {}}),
        NOT_A_LIST,
    ),
    _case(
        "no configuration",
        lambda model: model_management_pb2.ReloadConfigRequest(),
        NOT_A_LIST,
    ),
    _case(
        "duplicate",
        lambda model: reload_request(model_config("x", "/a"), model_config("x", "/b")),
        "Illegal to list model x multiple times in config list",
    ),
    _case(
        "relative path",
        lambda model: reload_request(model_config("x", "models/x")),
        "Expected model x to have an absolute path or URI; got base_path()=models/x",
    ),
    _case(
        "another platform for a model that is served",
        lambda model: reload_request(model_config(BARE, "/a", model_platform="x")),
        f"Illegal to change a model's platform. For model {BARE} platform was tensorflow "
        "and new platform requested is x",
    ),
    _case(
        "no platform",
        lambda model: reload_request(model_config(BARE, "/a", model_platform="")),
        "Illegal setting neither ModelServerConfig::model_type (deprecated) "
        f"nor ModelServerConfig::model_platform, model name is {BARE}",
    ),
)
