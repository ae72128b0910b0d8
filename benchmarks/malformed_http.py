"""Malformed requests over HTTP, and bytes of no protocol at all at both ports."""

from __future__ import annotations

import gzip
import json

from malformed_kinds import Generator, kind, long_name
from serving_common import MODEL_NAME

PREDICT = f"POST /v1/models/{MODEL_NAME}:predict"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BOMB = gzip.compress(bytes(200 << 20), 9)  # 0.2 MB that are 200 MB
BAD = "400"
# libevent's words for what is no request; "closed" where the client did not wait for them.
NO_REQUEST = ("400", "404", "413", "417", "501", "503", "closed")


# === REST ===


@kind(BAD, door="rest", target=PREDICT)
def no_json(rng: Generator) -> bytes:
    return rng.bytes(int(rng.integers(0, 1 << int(rng.integers(1, 16)))))


@kind(BAD, door="rest", target=PREDICT)
def deep_json(rng: Generator) -> bytes:
    depth = 1 << int(rng.integers(4, 20))
    opening = [b"[", b'{"a":', b'[{"instances":'][int(rng.integers(3))]
    return (b'{"instances":' if rng.integers(2) else b"") + opening * depth


@kind(BAD, door="rest", target=PREDICT)
def truncated_json(rng: Generator) -> bytes:
    whole = json.dumps({"instances": [{"image": [[[1, 2, 3]] * 40] * 4}]}).encode()
    return whole[: int(rng.integers(0, len(whole)))]


@kind(BAD, door="rest", target=PREDICT)
def odd_json(rng: Generator) -> bytes:
    bodies = (
        "{}",
        "[]",
        "null",
        '{"instances": []}',
        '{"instances": 1}',
        '{"instances": [[]], "inputs": []}',
        '{"instances": [1e999]}',
        '{"instances": [-1e400, 1]}',
        '{"instances": [[1], [1, 2]]}',
        '{"instances": [[1], 1]}',
        '{"instances": [{"b64": "****"}]}',
        '{"instances": [{"image": {"b64": "YWI="}}]}',
        '{"instances": ["\\ud800"]}',
        '{"instances": ["\\u0000"]}',
        '{"inputs": {"x": [1]}}',
        '{"inputs": "text"}',
        '{"signature_name": 3, "instances": [1]}',
        '{"signature_name": "x", "instances": [1]}',
        '{"instances": [' + "9" * 30_000 + "]}",
        '{"instances": [0.' + "3" * 30_000 + "]}",
        '{"instances": [' + "1," * 20_000 + "1]}",
        '{"instances": ' + "[" * 4 + "300" + "]" * 4 + "}",
    )
    return bodies[int(rng.integers(len(bodies)))].encode()


@kind(BAD, door="rest", target=PREDICT)
def files_that_are_none(rng: Generator) -> bytes:
    body = {"signature_name": "encoded", "instances": [{"b64": rng.bytes(30).hex()}]}
    return json.dumps(body).encode()


@kind(BAD, door="rest", target=PREDICT, headers=(("Content-Encoding", "gzip"),))
def no_gzip(rng: Generator) -> bytes:
    whole = gzip.compress(b'{"instances": [1]}' * 50)
    return rng.bytes(50) if rng.integers(2) else whole[: int(rng.integers(1, len(whole)))]


@kind(BAD, door="rest", target=PREDICT, headers=(("Content-Encoding", "gzip"),))
def gzip_bomb(rng: Generator) -> bytes:
    return BOMB


@kind("400", "404", door="rest")
def odd_path(rng: Generator) -> dict:
    words = (
        f"/v1/models/{MODEL_NAME}/versions/{'9' * int(rng.integers(1, 4000))}",
        f"/v1/models/{MODEL_NAME}/labels/x:predict",
        f"/v1/models/{MODEL_NAME}:predict?x=1",
        f"/v1/models/{MODEL_NAME}:explode",
        "/v1/models/x",
        "/v1/models/x:predict",
        "/v1/models/%00%ff",
        "/v1/models",
        "/v1/",
        "/../../etc/passwd",
        "/" + "a" * int(rng.integers(1, 30_000)),
        "/v1/models/" + "%41" * int(rng.integers(1, 10_000)),
    )
    path = words[int(rng.integers(len(words)))]
    method = str(rng.choice(["GET", "POST", "PUT", "DELETE", "PATCH"]))
    return {"target": f"{method} {path}", "body": b"{}" if method == "POST" else b""}


@kind("200", door="rest", target=f"GET /v1/models/{MODEL_NAME}")
def body_of_a_get(rng: Generator) -> bytes:
    return rng.bytes(int(rng.integers(1, 100_000)))


# === Bytes ===


@kind("silent", *NO_REQUEST, door="rest port")
def odd_head(rng: Generator) -> bytes:
    heads = (
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * int(rng.integers(1, 20_000)) + b"\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * int(rng.integers(1, 200_000)),
        b"\r\n" * 5000,
        b"GET \0 HTTP/1.1\r\n\r\n",
    )
    return heads[int(rng.integers(len(heads)))]


@kind("silent", *NO_REQUEST, door="rest port")
def unfinished_head(rng: Generator) -> bytes:
    whole = b"POST /v1/models/x:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    return whole[: int(rng.integers(0, len(whole) + 1))]


@kind("silent", *NO_REQUEST, door="rest port")
def grpc_at_rest(rng: Generator) -> bytes:
    return PREFACE + bytes(9) + rng.bytes(int(rng.integers(0, 500)))


@kind("silent", "closed", "400", door="grpc port")
def http_at_grpc(rng: Generator) -> bytes:
    return b"GET /" + long_name(rng).encode()[:1000] + b" HTTP/1.1\r\nHost: x\r\n\r\n"


@kind("silent", "closed", door="grpc port")
def half_open(rng: Generator) -> bytes:
    return PREFACE[: int(rng.integers(0, len(PREFACE)))]


@kind("silent", "closed", door="grpc port")
def odd_frames(rng: Generator) -> bytes:
    """HTTP/2 frames of any type, length and stream, after a right beginning."""
    frames = PREFACE + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    for _ in range(int(rng.integers(1, 20))):
        body = rng.bytes(int(rng.integers(0, 200)))
        length = len(body) if rng.integers(4) else int(rng.integers(0, 1 << 24))
        head = [int(rng.integers(12)), int(rng.integers(256)), *rng.bytes(4)]
        frames += length.to_bytes(3, "big") + bytes(head) + body
    return frames


@kind("silent", "closed", "400", door="grpc port")
def noise_at_grpc(rng: Generator) -> bytes:
    return rng.bytes(int(rng.integers(1, 100_000)))
