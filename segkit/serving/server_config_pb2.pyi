# The generated messages carry no types of their own; see server_config.proto.
from typing import Any

def __getattr__(name: str) -> Any: ...
