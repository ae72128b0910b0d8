"""The REST API: from a request to a reply, as tensorflow/serving 2.15.1 answers it.

Paths, codes and messages are those of model_servers/http_rest_api_*.cc and http_server.cc there.
What only looks odd is theirs, too: a path's words may be in capitals, but "PREDICT" is none of
the methods; a query makes a path malformed; a body that is no gzip is an empty one.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from tensorflow_serving.apis import model_pb2

from segkit.contract import DEFAULT_SIGNATURE
from segkit.engines import Code, StatusError
from segkit.serving.inference import CLASSIFY, REGRESS, refuse_inference
from segkit.serving.rest.json_examples import check_examples
from segkit.serving.rest.json_proto import SIGNATURE_DEF, metadata_body, status_body
from segkit.serving.rest.json_reply import error_body, predict_body
from segkit.serving.rest.json_request import read_predict_call, read_signature_name
from segkit.serving.rest.json_text import parse_object
from segkit.serving.rest.message import MAX_BODY_BYTES, Reply, Request, error_page
from segkit.serving.servable import Servable
from segkit.serving.service import ModelServices

__all__ = ["RestApi"]

logger = logging.getLogger(__name__)

JSON = ("Content-Type", "application/json")
TEXT = ("Content-Type", "text/plain")
NO_BODY = ("Content-Type", "text/html; charset=ISO-8859-1")  # libevent's, where none is said
CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
)
MAX_VERSION = 2**63 - 1
GZIP_WBITS = 31  # zlib's way to say: a gzip header, and the largest window

HTTP_STATUSES = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INTERNAL: 500,
    Code.DATA_LOSS: 500,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}

_API = re.compile(r"/v1/.*", re.IGNORECASE)
_VERSION = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(
    rf"/v1/models/(?P<model>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", re.IGNORECASE
)
_GET = re.compile(
    rf"/v1/models(?:/(?P<model>[^/:]+))?{_VERSION}(?:/(?P<resource>metadata))?", re.IGNORECASE
)


class _Route(NamedTuple):
    """What a path names; "" where it names nothing."""

    matched: bool = False
    model: str = ""
    version: str = ""
    label: str = ""
    method: str = ""
    resource: str = ""


class RestApi:
    """Answers HTTP requests about the served models. Threads may call it at the same time.

    Args:
        services: The models.
        timeout_s: Seconds that a prediction may take; 0 for any number.
        cors: Whether browsers may ask from other origins.
        metrics_path: Where Prometheus finds the metrics; None for nowhere.
        metrics_page: Gives their text.
        check_method_name: See `segkit.serving.inference.refuse_inference`.
    """

    def __init__(
        self,
        services: ModelServices,
        *,
        timeout_s: float = 30.0,
        cors: bool = False,
        metrics_path: str | None = None,
        metrics_page: Callable[[], str] = str,
        check_method_name: bool = False,
    ) -> None:
        self._services = services
        self._timeout_s = timeout_s or None
        self._cors = CORS if cors else ()
        self._metrics_path, self._metrics_page = metrics_path, metrics_page
        self._check_method_name = check_method_name
        # A body is some 20 times as large as Python objects, so there is one at a time. Little is
        # lost: only one thread at a time runs Python.
        self._parsing = threading.Lock()

    def answer(self, request: Request) -> Reply:
        """Answers a request; whatever goes wrong is a reply, too."""
        if self._metrics_path is not None and request.path == self._metrics_path:
            return self._metrics(request)
        if not _API.fullmatch(request.target):
            return error_page(404)
        begin = time.perf_counter()
        route = _route(request)
        if request.method == "OPTIONS":
            allowed = re.search("https?://", request.headers.get("origin", ""))
            code, body, kind = Code.OK if allowed else Code.FAILED_PRECONDITION, b"", NO_BODY
        else:
            code, body, kind = *self._run(request, route), JSON
        seconds = time.perf_counter() - begin
        self._services.observe(route.model, route.method, "REST", code, seconds)
        return Reply(HTTP_STATUSES[code], (kind, *self._cors), body)

    def _metrics(self, request: Request) -> Reply:
        if request.target != self._metrics_path:
            text = f"Unexpected path: {request.target}. Should be {self._metrics_path}"
            return Reply(400, (TEXT,), text.encode())
        return Reply(200, (TEXT,), self._metrics_page().encode())

    def _run(self, request: Request, route: _Route) -> tuple[Code, bytes]:
        try:
            return Code.OK, self._body(request, route)
        except StatusError as err:
            return err.code, error_body(err.message)
        except Exception as err:
            logger.exception("a request failed in a way that is not the client's doing")
            return Code.INTERNAL, error_body(f"{type(err).__name__}: {err}")

    def _body(self, request: Request, route: _Route) -> bytes:
        spec = _model_spec(route)
        if route.matched and request.method == "POST":
            if route.method == "predict":
                return self._predict(spec, _inflate(request))
            if route.method in ("classify", "regress"):
                raise self._refuse(spec, route.method, _inflate(request))
        if route.matched and request.method == "GET":
            if not route.model:
                raise _invalid("Missing model name in request.")
            if route.resource == "metadata":
                return metadata_body(self._services.model_metadata(spec, [SIGNATURE_DEF]))
            return status_body(self._services.model_status(spec))
        raise _invalid(f"Malformed request: {request.method} {request.target}")

    def _predict(self, spec: Any, body: bytes) -> bytes:
        with contextlib.ExitStack() as stack:
            held: list[Servable] = []

            def find_signatures() -> Mapping[str, Any]:
                held.append(stack.enter_context(self._services.models.hold(spec)))
                return held[-1].signature_defs

            with self._parsing:
                call = read_predict_call(body, find_signatures)
            name = call.signature_name or DEFAULT_SIGNATURE
            if name not in held[-1].engine.signatures:
                raise StatusError(
                    Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.'
                )
            outputs = held[-1].run(name, call.arrays, timeout_s=self._timeout_s)
        return predict_body(outputs, by_row=call.by_row)

    def _refuse(self, spec: Any, method: str, body: bytes) -> StatusError:
        with self._parsing:
            document = parse_object(body)
            name = read_signature_name(document)
            check_examples(document)
        kind = CLASSIFY if method == "classify" else REGRESS
        with self._services.models.hold(spec) as servable:
            return refuse_inference(servable, name, kind, check_method_name=self._check_method_name)


def _route(request: Request) -> _Route:
    pattern = {"POST": _POST, "GET": _GET}.get(request.method)
    found = pattern.fullmatch(request.target) if pattern else None
    if found is None:
        return _Route()
    parts = {name: part or "" for name, part in found.groupdict().items()}
    for name in ("model", "label"):
        parts[name] = unquote(parts[name])
    return _Route(True, **parts)


def _model_spec(route: _Route) -> Any:
    spec = model_pb2.ModelSpec(name=route.model)
    if route.version:
        # Not int(): it takes time for thousands of digits, and then refuses them.
        digits = route.version.lstrip("0") or "0"
        if len(digits) > len(str(MAX_VERSION)) or int(digits) > MAX_VERSION:
            raise _invalid(f"Failed to convert version: {route.version} to numeric.")
        spec.version.value = int(digits)
    if route.label:
        spec.version_label = route.label
    return spec


def _inflate(request: Request) -> bytes:
    """The body as it was before it was compressed; empty where that is impossible."""
    raw = request.body
    if "gzip" not in request.headers.get("content-encoding", "") or not raw:
        return raw
    # A gzip file ends with its size, and no more than that is made of it.
    size = int.from_bytes(raw[-4:], "little")
    inflater = zlib.decompressobj(GZIP_WBITS)
    try:
        if 0 < size <= MAX_BODY_BYTES:
            body = inflater.decompress(raw, size)
            # What is left are the last bytes of the file, without any of the body.
            if not inflater.decompress(inflater.unconsumed_tail, 1) and inflater.eof:
                return body if not inflater.unused_data else b""
    except zlib.error as err:
        logger.debug("REST: failed to uncompress a gzip body: %s", err)
    return b""


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
