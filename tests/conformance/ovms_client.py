"""Asks a server through ovmsclient 2023.1; run by the interpreter of its own environment.

    PYTHON ovms_client.py grpc|http HOST:PORT MODEL FOLDER

FOLDER has image.npy. Its answer by version 1 is written there as answer.npy; what the client makes
of status, metadata and an error is printed as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ovmsclient import (  # type: ignore[import-not-found]  # it is in no environment of ours
    make_grpc_client,
    make_http_client,
)


def main() -> None:
    protocol, address, model, folder = sys.argv[1:]
    client = {"grpc": make_grpc_client, "http": make_http_client}[protocol](address)
    image = np.load(Path(folder) / "image.npy")
    answer = client.predict({"image": image}, model, model_version=1, timeout=30)
    np.save(Path(folder) / "answer.npy", answer)
    said: dict[str, Any] = {
        "status": client.get_model_status(model, model_version=1),
        "metadata": client.get_model_metadata(model, model_version=1),
    }
    try:
        client.predict({"image": image}, "x", model_version=1)
    except Exception as err:  # whatever class it is, the test says which one is right
        said["error"] = [type(err).__name__, str(err)]
    print(json.dumps(said))


if __name__ == "__main__":
    main()
