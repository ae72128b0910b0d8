"""A private authority, and the certificates that it signs: ECDSA keys on P-256, X.509 version 3."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

__all__ = ["RENEW_DAYS", "Role", "Signed", "fault", "is_address", "new_authority", "sign"]

CA_DAYS = 3650
RENEW_DAYS = 30  # one that ends sooner is to be made again
CLOCK_SKEW = timedelta(minutes=5)  # of machines whose clock is late

Role = Literal["server", "client"]
_USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True)
class Signed:
    """A certificate and its private key."""

    cert: x509.Certificate
    key: Any

    @classmethod
    def from_pem(cls, cert: bytes, key: bytes) -> Signed:
        """Reads PEM texts.

        Raises:
            ValueError: One of them is none, or the key is another's.
            TypeError: The key has a password.
        """
        pair = cls(
            x509.load_pem_x509_certificate(cert),
            serialization.load_pem_private_key(key, password=None),
        )
        if pair.cert.public_key() != pair.key.public_key():
            raise ValueError("the key is that of another certificate")
        return pair

    @property
    def cert_pem(self) -> str:
        """The certificate as PEM text."""
        return self.cert.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        """The private key as PEM text, PKCS 8, without a password."""
        pem: bytes = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return pem.decode()

    @property
    def expires(self) -> datetime:
        """When it ends, UTC."""
        return self.cert.not_valid_after_utc

    @property
    def ends_soon(self) -> bool:
        """Whether it is to be made again."""
        return self.expires < datetime.now(UTC) + timedelta(days=RENEW_DAYS)

    @property
    def is_authority(self) -> bool:
        """Whether it may sign others."""
        constraints = _extensions(self.cert, x509.BasicConstraints)
        return bool(constraints and constraints[0].ca)

    @property
    def names(self) -> tuple[str, ...]:
        """Names and addresses that it is for."""
        found = _extensions(self.cert, x509.SubjectAlternativeName)
        return tuple(str(name.value) for names in found for name in names)


def new_authority() -> Signed:
    """An authority of its own; it lasts ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name("segkit private authority")
    end = datetime.now(UTC) + timedelta(days=CA_DAYS)
    builder = (
        _builder(subject, subject, key, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
    )
    return _finish(builder, key, key)


def sign(ca: Signed, role: Role, names: Sequence[str], *, days: int) -> Signed:
    """A certificate of an authority.

    Args:
        ca: The authority.
        role: What it is good for.
        names: Host names and addresses that it is for.
        days: That it lasts; never longer than the authority.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(datetime.now(UTC) + timedelta(days=days), ca.expires)
    builder = (
        _builder(_name(f"segkit {role}"), ca.cert.subject, key, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_USAGES[role]]), critical=False)
    )
    if names:
        # gRPC looks for an address among the addresses alone, and for a name among the names.
        sans = [
            x509.IPAddress(ipaddress.ip_address(name)) if is_address(name) else x509.DNSName(name)
            for name in names
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return _finish(builder, key, ca.key)


def fault(pair: Signed, ca: Signed, names: Sequence[str]) -> str | None:
    """What is wrong with a certificate, in words that follow its name; None: nothing."""
    try:
        pair.cert.verify_directly_issued_by(ca.cert)
    except (InvalidSignature, ValueError, TypeError):  # the last two: of another name, or kind
        return "was signed by another authority"
    if set(pair.names) != set(names):
        return f"is for {', '.join(pair.names) or 'no host'}"
    return f"ends on {pair.expires:%Y-%m-%d}" if pair.ends_soon else None


def is_address(host: str) -> bool:
    """Whether a host is an IP address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _builder(subject: Any, issuer: Any, key: Any, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - CLOCK_SKEW)
        .not_valid_after(end)
    )


def _finish(builder: x509.CertificateBuilder, key: Any, signing_key: Any) -> Signed:
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
    builder = builder.add_extension(own, critical=False).add_extension(authority, critical=False)
    return Signed(builder.sign(signing_key, hashes.SHA256()), key)


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def _extensions(cert: x509.Certificate, kind: type[Any]) -> list[Any]:
    return [extension.value for extension in cert.extensions if isinstance(extension.value, kind)]
