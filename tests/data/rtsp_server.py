"""A camera for tests: RTSP with H.264 as RTP inside the same TCP connection, as cameras send it.

It shows time patterns: frame ids count since the camera was made, whoever looks on, and the clock
is that of the moment when the frame was encoded.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from types import TracebackType

import av
import numpy as np

from segkit.video.time_pattern import clock_ms, draw_pattern

RTP_CLOCK = 90_000
PAYLOAD_BYTES = 1400
REALM, NONCE = "camera", "0a4f113b"
FINE, UNAUTHORIZED, NOT_FOUND = "200 OK", "401 Unauthorized", "404 Not Found"
STREAM = "/stream"


class RtspServer:
    """Serves rtsp://127.0.0.1:PORT/stream to any number of clients. A context manager.

    Args:
        size: Height and width.
        rate: Frames a second.
        keyframes: From one to the next, frames.
        joins_at: Frame of such a group at which clients join: 0 begins with the keyframe.
        user: Who may look; None: everybody.
        password: Of the user.
        scheme: "Digest" or "Basic".
        delay_s: How long an answer to PLAY takes.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (96, 160),
        rate: int = 30,
        keyframes: int = 30,
        joins_at: int = 0,
        user: str | None = None,
        password: str = "",
        scheme: str = "Digest",
        delay_s: float = 0,
    ) -> None:
        self.size, self.rate, self.keyframes, self.joins_at = size, rate, keyframes, joins_at
        self.user, self.password, self.scheme, self.delay_s = user, password, scheme, delay_s
        self.sessions = 0  # that began to play
        self._start = time.monotonic()
        self._sending = threading.Event()
        self._sending.set()
        self._listener: socket.socket | None = None
        self._clients: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._port = 0
        self.listen()

    @property
    def url(self) -> str:
        login = f"{self.user}:{self.password}@" if self.user else ""
        return f"rtsp://{login}127.0.0.1:{self._port}{STREAM}"

    def listen(self) -> None:
        """Takes clients, again at the same port where it did before."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        self._spawn(self._accept, self._listener)

    def stall(self) -> None:
        """Leaves every connection open and sends nothing."""
        self._sending.clear()

    def resume(self) -> None:
        """Sends again, to clients that are still there and to new ones."""
        self._sending.set()

    def hang_up(self) -> None:
        """Closes every connection; new ones are taken."""
        for client in list(self._clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def go_away(self) -> None:
        """Closes every connection and the port."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.hang_up()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.go_away()
        self.resume()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a client is still served"

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # went away
            self._clients.add(client)
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        gone = threading.Event()
        with client, suppress(OSError):
            for request in _requests(client):
                method, url = request.split(" ", 2)[:2]
                status, headers, body = self._answer(method, url, request)
                if method == "PLAY":
                    time.sleep(self.delay_s)
                sequence = _header(request, "CSeq")
                lines = [f"RTSP/1.0 {status}", f"CSeq: {sequence}", *headers]
                if body:
                    lines.append(f"Content-Length: {len(body)}")
                client.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
                if method == "PLAY" and status == FINE:
                    self.sessions += 1
                    self._spawn(self._play, client, gone)
                if method == "TEARDOWN":
                    break
        gone.set()
        self._clients.discard(client)

    def _answer(self, method: str, url: str, request: str) -> tuple[str, list[str], str]:
        if method == "OPTIONS":
            return FINE, ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"], ""
        if not self._knows(method, url, _header(request, "Authorization")):
            nonce = f', nonce="{NONCE}"' if self.scheme == "Digest" else ""
            return UNAUTHORIZED, [f'WWW-Authenticate: {self.scheme} realm="{REALM}"{nonce}'], ""
        if STREAM not in url:
            return NOT_FOUND, [], ""
        if method == "DESCRIBE":
            return FINE, ["Content-Type: application/sdp"], self._description()
        if method == "SETUP" and "RTP/AVP/TCP" not in _header(request, "Transport"):
            return "461 Unsupported Transport", [], ""
        transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"
        return FINE, ["Session: 7", *([transport] if method == "SETUP" else [])], ""

    def _knows(self, method: str, url: str, authorization: str) -> bool:
        if self.user is None:
            return True
        if self.scheme == "Basic":
            login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            return authorization == f"Basic {login}"
        uri = re.search(r'uri="([^"]*)"', authorization)
        first = _md5(f"{self.user}:{REALM}:{self.password}")
        second = _md5(f"{method}:{uri[1] if uri else url}")
        return f'response="{_md5(f"{first}:{NONCE}:{second}")}"' in authorization

    def _description(self) -> str:
        _, packet = next(self._packets(0))
        sets = [unit for unit in _units(packet) if unit[0] & 31 in (7, 8)]  # SPS and PPS
        encoded = ",".join(base64.b64encode(unit).decode() for unit in sets)
        lines = [
            "v=0",
            "o=- 0 0 IN IP4 127.0.0.1",
            "s=camera",
            "c=IN IP4 0.0.0.0",
            "t=0 0",
            "m=video 0 RTP/AVP 96",
            f"a=rtpmap:96 H264/{RTP_CLOCK}",
            f"a=framerate:{self.rate}",
            f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={encoded}",
            "a=control:track0",
        ]
        return "\r\n".join(lines) + "\r\n"

    def _play(self, client: socket.socket, gone: threading.Event) -> None:
        sequence = 0
        with suppress(OSError):
            joined = self._now() + 1
            for index, packet in self._packets(joined - self.joins_at):
                if index < joined:
                    continue
                self._sending.wait()
                if gone.is_set():
                    return
                units = _units(packet)
                for unit in units:
                    for payload, last in _payloads(unit):
                        marker = 0x80 if last and unit is units[-1] else 0
                        stamp = index * RTP_CLOCK // self.rate & 0xFFFFFFFF
                        rtp = struct.pack(">BBHII", 0x80, marker | 96, sequence & 0xFFFF, stamp, 7)
                        rtp += payload
                        client.sendall(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)
                        sequence += 1

    def _now(self) -> int:
        return int((time.monotonic() - self._start) * self.rate)

    def _packets(self, first: int) -> Iterator[tuple[int, bytes]]:
        encoder = av.CodecContext.create("libx264", "w")
        encoder.height, encoder.width = self.size
        encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, self.rate)
        encoder.framerate, encoder.gop_size = Fraction(self.rate), self.keyframes
        encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "26"}
        index = first
        image = np.full((*self.size, 3), 90, np.uint8)
        while True:
            time.sleep(max(0.0, self._start + index / self.rate - time.monotonic()))
            draw_pattern(image, index, clock_ms())
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, encoder.time_base
            for packet in encoder.encode(frame):
                yield index, bytes(packet)
            index += 1


def _requests(client: socket.socket) -> Iterator[str]:
    """Requests as they come; RTCP reports of the client between them are passed over."""
    data = b""
    while True:
        received = client.recv(4096)
        if not received:
            return
        data += received
        while True:
            if data[:1] == b"$":
                if len(data) < 4 or len(data) < 4 + struct.unpack(">H", data[2:4])[0]:
                    break
                data = data[4 + struct.unpack(">H", data[2:4])[0] :]
            elif b"\r\n\r\n" in data:
                request, data = data.split(b"\r\n\r\n", 1)
                yield request.decode()
            else:
                break


def _units(packet: bytes) -> list[bytes]:
    """The NAL units between start codes."""
    return [unit.rstrip(b"\0") for unit in packet.split(b"\0\0\1") if unit.strip(b"\0")]


def _payloads(unit: bytes) -> Iterator[tuple[bytes, bool]]:
    """The unit itself, or fragments of it (FU-A), and whether each is the last."""
    if len(unit) <= PAYLOAD_BYTES:
        yield unit, True
        return
    rest = unit[1:]
    for start in range(0, len(rest), PAYLOAD_BYTES):
        last = start + PAYLOAD_BYTES >= len(rest)
        flags = (0x80 if start == 0 else 0) | (0x40 if last else 0)
        head = bytes([unit[0] & 0xE0 | 28, flags | unit[0] & 31])
        yield head + rest[start : start + PAYLOAD_BYTES], last


def _header(request: str, name: str) -> str:
    found = re.search(rf"^{name}: *(.*?)\r?$", request, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()
