"""What the commands that ask a model server have in common: how it and the client are proved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.client import Credentials

__all__ = ["ConnectionOptions"]


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """Flags of a connection by TLS."""

    ca: Path | None = None
    """certificate of the authority that signed the server's: the connection is TLS"""
    cert: Path | None = None
    """the client's certificate, for a server that asks for one"""
    key: Path | None = None
    """the private key of --cert"""

    def __post_init__(self) -> None:
        given = [f"--{name}" for name in ("cert", "key") if getattr(self, name) is not None]
        if given and self.ca is None:
            raise ConfigError(
                f"{given[0]} is given without --ca",
                expected="the certificate of the server's authority as well",
                next_step="add --ca tls/ca.crt, or where yours is",
            )

    @property
    def credentials(self) -> Credentials | None:
        """The same for RemoteSegmenter; None where nothing is encrypted.

        Raises:
            ConfigError: One of --cert and --key is given without the other.
        """
        if self.ca is None:
            return None
        from segkit.client import Credentials

        return Credentials(ca=self.ca, cert=self.cert, key=self.key)
