"""Credentials: the PEM files by which client and server prove themselves to each other."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from segkit.errors import ConfigError

__all__ = ["Credentials"]

MADE_BY = "python -m segkit serve-config --tls HOST, where the server runs, makes them"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """For a server whose gRPC port speaks TLS.

    Args:
        ca: Certificate of the authority that signed the server's.
        cert: The client's own certificate, for a server that asks for one; None: there is none.
        key: The private key of `cert`.

    Raises:
        ConfigError: One of `cert` and `key` is given without the other.

    Example:
        credentials = Credentials(
            ca=Path("tls/ca.crt"), cert=Path("tls/client.crt"), key=Path("tls/client.key")
        )
        RemoteSegmenter("gpu1:8500", credentials=credentials)
    """

    ca: Path
    cert: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            given, missing = ("--cert", "--key") if self.key is None else ("--key", "--cert")
            raise ConfigError(
                f"{given} is given without {missing}",
                expected="the client's certificate and its private key, or none of them",
            )

    def to_grpc(self) -> Any:
        """The same for a channel.

        gRPC reads the texts only when it connects, and then says no more than that it cannot; so
        they are tried here.

        Raises:
            ConfigError: A file is missing or holds something else, or key and certificate do not
                belong together.
        """
        self.to_ssl()
        root = _read(self.ca, "--ca")
        if self.cert is None or self.key is None:
            return grpc.ssl_channel_credentials(root)
        return grpc.ssl_channel_credentials(
            root, _read(self.key, "--key"), _read(self.cert, "--cert")
        )

    def to_ssl(self) -> ssl.SSLContext:
        """The same for a socket.

        Raises:
            ConfigError: As of `to_grpc`.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load_ca(context, self.ca)
        if self.cert is not None and self.key is not None:
            _load_pair(context, self.cert, self.key)
        return context


def _read(path: Path, flag: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise ConfigError(
            f"{flag} '{path}' cannot be read: {err.strerror}",
            expected="a file of PEM text",
            next_step=MADE_BY,
        ) from err


def _load_ca(context: ssl.SSLContext, path: Path) -> None:
    _read(path, "--ca")
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as err:
        raise _no_pem("--ca", path, "CERTIFICATE") from err
    if not context.get_ca_certs():
        raise ConfigError(
            f"--ca '{path}' is not the certificate of an authority",
            expected="the certificate that signed the server's, such as tls/ca.crt",
            next_step=MADE_BY,
        )


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    for path, flag, kind in ((cert, "--cert", "CERTIFICATE"), (key, "--key", "PRIVATE KEY")):
        if f"{kind}-----".encode() not in _read(path, flag):
            raise _no_pem(flag, path, kind)
    try:
        # Without a password OpenSSL would ask for one on the terminal; gRPC takes none either.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as err:
        if err.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"--key '{key}' is not the key of --cert '{cert}'",
                expected="a certificate and its own private key, such as client.crt and client.key",
                next_step=MADE_BY,
            ) from err
        raise ConfigError(
            f"--cert '{cert}' and --key '{key}' cannot be used ({err.reason or err})",
            expected="an X.509 certificate and its private key without a password, as PEM text",
            next_step=MADE_BY,
        ) from err


def _no_pem(flag: str, path: Path, kind: str) -> ConfigError:
    return ConfigError(
        f"{flag} '{path}' holds no {kind.lower()}",
        expected=f"PEM text that begins with -----BEGIN {kind}-----",
        next_step=MADE_BY,
    )
