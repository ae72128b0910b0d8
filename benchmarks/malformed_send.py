"""Doors: how a malformed request reaches the server, and what comes back."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from typing import Self

import grpc
from malformed_kinds import Case

__all__ = ["Doors"]

TIMEOUT_S = 60.0
SILENCE_S = 0.3  # after which a server that says nothing is taken to wait for more
MOST_SILENT = 100  # connections that are left open at the same time


class Doors:
    """Both ports of a server. Threads may send at the same time. A context manager.

    Args:
        address: Host and port of gRPC.
        rest_port: Port of REST.
    """

    def __init__(self, address: str, rest_port: int) -> None:
        self._channel = grpc.insecure_channel(
            address, options=[("grpc.max_send_message_length", -1)]
        )
        host, _, port = address.rpartition(":")
        self._ports = {"grpc port": (host, int(port)), "rest port": (host, rest_port)}
        self._rest = (host, rest_port)
        self._silent: list[socket.socket] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close_silent()
        self._channel.close()

    def send(self, case: Case) -> str:
        """Sends a request; gives its gRPC code, its HTTP status, "closed" or "silent"."""
        if case.door == "grpc":
            return self._send_grpc(case)
        if case.door == "rest":
            return self._send_rest(case)
        return self._send_bytes(case)

    def close_silent(self) -> None:
        """Closes the connections on which the server waits for more."""
        with self._lock:
            silent, self._silent = self._silent, []
        for connection in silent:
            connection.close()

    def _send_grpc(self, case: Case) -> str:
        gzip = grpc.Compression.Gzip if case.gzip else None
        call = self._channel.unary_unary(case.target)
        try:
            call(
                case.body,
                timeout=case.timeout_s or TIMEOUT_S,
                metadata=case.headers,
                compression=gzip,
            )
        except grpc.RpcError as err:
            return str(err.code().name)
        return "OK"

    def _send_rest(self, case: Case) -> str:
        method, path = case.target.split(" ", 1)
        connection = http.client.HTTPConnection(*self._rest, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            try:
                connection.putrequest(method, path, skip_accept_encoding=True)
                for name, value in (("Content-Length", str(len(case.body))), *case.headers):
                    connection.putheader(name, value)
                connection.endheaders(case.body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before all of it was sent: the answer is there
            try:
                reply = connection.getresponse()
                reply.read()
            except (http.client.HTTPException, ConnectionError):
                return "closed"
            return str(reply.status)

    def _send_bytes(self, case: Case) -> str:
        connection = socket.create_connection(self._ports[case.door], timeout=TIMEOUT_S)
        try:
            connection.sendall(case.body)
            connection.settimeout(SILENCE_S)
            # What gRPC says first is its settings, whatever it was sent.
            while said := connection.recv(1 << 16):
                if said.startswith(b"HTTP/1.1 "):
                    connection.close()
                    return said[9:12].decode()
        except TimeoutError:
            self._keep(connection)
            return "silent"
        except ConnectionError:
            pass
        connection.close()
        return "closed"

    def _keep(self, connection: socket.socket) -> None:
        with self._lock:
            self._silent.append(connection)
            oldest = self._silent.pop(0) if len(self._silent) > MOST_SILENT else None
        if oldest is not None:
            oldest.close()
