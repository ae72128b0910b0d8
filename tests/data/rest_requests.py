"""Requests to the REST API without a connection, and what is read of its replies."""

from __future__ import annotations

import json
from typing import Any

from segkit.serving.rest.api import RestApi
from segkit.serving.rest.message import Reply, Request

MODEL = "/v1/models/segkit"


def ask(api: RestApi, method: str, target: str, body: Any = b"", **headers: str) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.answer(Request(method, target, names, raw))


def predict(api: RestApi, body: Any, target: str = f"{MODEL}:predict", **headers: str) -> Any:
    reply = ask(api, "POST", target, body, **headers)
    assert (reply.status, reply.headers) == (200, (("Content-Type", "application/json"),))
    return json.loads(reply.body)


def error(reply: Reply, status: int = 400) -> str:
    assert (reply.status, reply.headers[0]) == (status, ("Content-Type", "application/json"))
    (message,) = json.loads(reply.body).values()
    assert reply.body.startswith(b'{\n    "error": "')
    return str(message)
