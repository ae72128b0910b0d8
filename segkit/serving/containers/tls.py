"""Mutual TLS: the folder of keys and certificates, and the server's ssl.config.

<folder>/ca.crt, ca.key           the authority; its key signs, and stays on this machine
<folder>/server.crt, server.key   of the server; ssl.config holds both as text
<folder>/client.crt, client.key   of the clients, who need ca.crt as well
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format

from segkit.errors import ConfigError
from segkit.serving.configs import read_message
from segkit.serving.containers.certificates import (
    RENEW_DAYS,
    Role,
    Signed,
    fault,
    is_address,
    new_authority,
    sign,
)
from segkit.serving.containers.generated import PRIVATE, PUBLIC, write_beside
from segkit.serving.server_config_pb2 import SSLConfig

__all__ = ["ALWAYS", "TlsFiles", "check_hosts", "check_ssl_config", "make_tls_files"]

ALWAYS = ("localhost", "127.0.0.1")
AUTHORITY = "ca"
LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
DNS_NAME = re.compile(rf"(\*\.)?{LABEL}(\.{LABEL})*")


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """What is in the folder.

    Args:
        ca: The authority.
        server: What the server shows.
        client: What clients show.
        written: Files that are new.
    """

    ca: Signed
    server: Signed
    client: Signed
    written: tuple[Path, ...]

    @property
    def ssl_config(self) -> str:
        """The text for --ssl_config_file: clients must show a certificate of the authority."""
        config = SSLConfig(
            server_key=self.server.key_pem,
            server_cert=self.server.cert_pem,
            custom_ca=self.ca.cert_pem,
            client_verify=True,
        )
        return text_format.MessageToString(config)


def check_hosts(hosts: Sequence[str]) -> None:
    """Refuses what cannot stand in a certificate.

    Raises:
        ConfigError: One is neither a name nor an address.
    """
    for host in hosts:
        if not is_address(host) and not DNS_NAME.fullmatch(host):
            raise ConfigError(
                f"--tls '{host}' is no host",
                expected="names and addresses by which clients reach the server, without a port, "
                "as in gpu1.example.org 10.0.0.5",
            )


def make_tls_files(
    folder: Path, hosts: Sequence[str], *, days: int, overwrite: bool = False
) -> TlsFiles:
    """Makes what is missing; an authority that is there is used, and never replaced.

    Args:
        folder: Nobody else may look into it.
        hosts: By which clients reach the server; `ALWAYS` as well.
        days: That the certificates of server and clients last.
        overwrite: Replace the server's and the clients', where they do not fit or end soon.

    Raises:
        ConfigError: A file does not fit, or cannot be read or written.
    """
    check_hosts(hosts)
    names = tuple(dict.fromkeys([*hosts, *ALWAYS]))
    _open_folder(folder)
    ca = _load(folder, AUTHORITY) or new_authority()
    _check_authority(ca, folder)
    server = _load_or_sign(folder, "server", ca, names, days=days, overwrite=overwrite)
    client = _load_or_sign(folder, "client", ca, (), days=days, overwrite=overwrite)
    written = [
        path
        for role, pair in ((AUTHORITY, ca), ("server", server), ("client", client))
        for path in _save(folder, role, pair)
    ]
    return TlsFiles(ca=ca, server=server, client=client, written=tuple(written))


def check_ssl_config(path: Path) -> Signed:
    """Says whether a --ssl_config_file will do.

    Returns:
        What the server shows.

    Raises:
        ConfigError: It cannot be read, its parts do not fit together, or the certificate ends soon.
    """
    config = read_message(path, SSLConfig)
    try:
        server = Signed.from_pem(config.server_cert.encode(), config.server_key.encode())
    except (ValueError, TypeError) as err:
        raise ConfigError(
            f"server_cert and server_key of '{path}' cannot be used: {err}",
            expected="a certificate and its key as PEM text",
            next_step="make it again by `python -m segkit serve-config --tls HOST`",
        ) from err
    if server.ends_soon:
        raise ConfigError(
            f"the certificate in '{path}' ends on {server.expires:%Y-%m-%d}",
            expected=f"one that is good for {RENEW_DAYS} days and more",
            next_step="python -m segkit serve-config --tls HOST --overwrite",
        )
    return server


def _open_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode & 0o777
    except OSError as err:
        raise ConfigError(
            f"the folder of keys '{folder}' cannot be made: {err.strerror}",
            expected="a folder that this user may write",
            next_step="give another --tls_dir",
        ) from err
    if mode & 0o077:
        raise ConfigError(
            f"the folder of keys '{folder}' is open to others (mode {mode:o})",
            expected="mode 700",
            next_step=f"chmod 700 {folder}",
        )


def _load(folder: Path, role: str) -> Signed | None:
    """A certificate with its key, or None where there is neither."""
    cert, key = folder / f"{role}.crt", folder / f"{role}.key"
    there = [path for path in (cert, key) if path.exists()]
    if not there:
        return None
    if len(there) == 1:
        raise ConfigError(
            f"there is '{there[0]}', but no '{key if there == [cert] else cert}'",
            expected="both of them, or none",
            next_step="bring it back, or move the other away",
        )
    try:
        return Signed.from_pem(cert.read_bytes(), key.read_bytes())
    except (OSError, ValueError, TypeError) as err:
        raise ConfigError(
            f"'{cert}' and '{key}' cannot be used: {err}",
            expected="a certificate and its own key without a password, as PEM text",
            next_step="move both away, and have them made again",
        ) from err


def _check_authority(ca: Signed, folder: Path) -> None:
    if not ca.is_authority:
        raise ConfigError(
            f"'{folder / 'ca.crt'}' is not the certificate of an authority",
            expected="one that may sign others",
            next_step="move ca.crt and ca.key away, or give another --tls_dir",
        )
    if ca.ends_soon:
        raise ConfigError(
            f"the authority '{folder / 'ca.crt'}' ends on {ca.expires:%Y-%m-%d}",
            expected=f"one that is good for {RENEW_DAYS} days and more",
            next_step="give another --tls_dir for a new authority, and its ca.crt to all clients",
        )


def _load_or_sign(
    folder: Path, role: Role, ca: Signed, names: Sequence[str], *, days: int, overwrite: bool
) -> Signed:
    existing = _load(folder, role)
    wrong = fault(existing, ca, names) if existing else None
    if existing and not wrong:
        return existing
    if wrong and not overwrite:
        raise ConfigError(
            f"'{folder / role}.crt' {wrong}",
            expected=f"one of the authority beside it for {', '.join(names) or 'clients'}, good "
            f"for {RENEW_DAYS} days and more",
            next_step="add --overwrite to replace it",
        )
    return sign(ca, role, names, days=days)


def _save(folder: Path, role: str, pair: Signed) -> list[Path]:
    """Writes what is not there yet."""
    files = {f"{role}.key": (pair.key_pem, PRIVATE), f"{role}.crt": (pair.cert_pem, PUBLIC)}
    written = []
    for name, (text, mode) in files.items():
        path = folder / name
        if path.exists() and path.read_text() == text and path.stat().st_mode & 0o777 == mode:
            continue
        os.replace(write_beside(path, text, mode), path)
        written.append(path)
    return written
