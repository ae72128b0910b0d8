"""find_fault(): why client and server do not come together, by a TLS handshake of our own.

Of a host with several addresses gRPC tells what the last one said, which may be that nobody listens
there; and a server that refuses a client's certificate it calls a closed socket.
"""

from __future__ import annotations

import enum
import socket
import ssl

from segkit.client.credentials import Credentials

__all__ = ["Fault", "find_fault"]

TIMEOUT_S = 2.0
# X509_V_ERR_...: dates; host name and address.
DATES, NAMES = (9, 10), (62, 64)


class Fault(enum.Enum):
    """What keeps them apart."""

    SERVER_WANTS_TLS = enum.auto()
    SERVER_HAS_NO_TLS = enum.auto()
    OTHER_NAME = enum.auto()
    EXPIRED = enum.auto()
    OTHER_AUTHORITY = enum.auto()
    CLIENT_REFUSED = enum.auto()


def find_fault(server: str, credentials: Credentials | None) -> Fault | None:
    """Connects once, and looks what happens.

    Args:
        server: "host:port"; of another form of address nothing is found.
        credentials: The client's, None where it does without TLS.

    Returns:
        The fault; None where none is found, such as where nobody listens.
    """
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
            if credentials is None:
                return _without_tls(connection)
            return _with_tls(connection, host, credentials.to_ssl())
    except (OSError, ValueError):  # the port is no number: a Unix socket
        return None


def _without_tls(connection: socket.socket) -> Fault | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        context.wrap_socket(connection).close()
    except ssl.SSLError as err:
        return Fault.SERVER_WANTS_TLS if _is_alert(err) else None
    return Fault.SERVER_WANTS_TLS


def _with_tls(connection: socket.socket, host: str, context: ssl.SSLContext) -> Fault | None:
    context.set_alpn_protocols(["h2"])
    try:
        with context.wrap_socket(connection, server_hostname=host) as secure:
            # With TLS 1.3 the client has finished before the server looks at its certificate.
            return None if secure.recv(1) else Fault.CLIENT_REFUSED
    except ssl.SSLCertVerificationError as err:
        if err.verify_code in NAMES:
            return Fault.OTHER_NAME
        return Fault.EXPIRED if err.verify_code in DATES else Fault.OTHER_AUTHORITY
    except ssl.SSLError as err:
        if err.reason == "WRONG_VERSION_NUMBER":
            return Fault.SERVER_HAS_NO_TLS
        return Fault.CLIENT_REFUSED if _is_alert(err) else None


def _is_alert(err: ssl.SSLError) -> bool:
    """Whether the other side spoke TLS, and refused."""
    return "ALERT" in (err.reason or "")
