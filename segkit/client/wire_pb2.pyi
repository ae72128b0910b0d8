# The generated messages carry no types of their own; only wire.py and remote.py touch them.
from typing import Any

def __getattr__(name: str) -> Any: ...
