"""Mutual TLS, with the files that serve-config makes: who is let in, and what the others read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import text_format

from segkit.client import Credentials, RemoteSegmenter
from segkit.client.handshake import find_fault
from segkit.contract import Metadata
from segkit.errors import ConfigError, ServerError, ServerUnavailable
from segkit.serving.containers import certificates
from segkit.serving.containers.tls import make_tls_files
from segkit.serving.server_config_pb2 import SSLConfig


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of keys and certificates, with ssl.config in it."""
    folder = tmp_path_factory.mktemp("tls") / "tls"
    made = make_tls_files(folder, [], days=825)
    (folder / "ssl.config").write_text(made.ssl_config)
    return folder


def credentials(folder: Path, client: str = "client") -> Credentials:
    return Credentials(
        ca=folder / "ca.crt", cert=folder / f"{client}.crt", key=folder / f"{client}.key"
    )


Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def serve(tiny_metadata: Metadata, request: pytest.FixtureRequest) -> Serve:
    """Serves by an ssl.config as tensorflow/serving does (model_servers/server.cc)."""
    fake_server_type = request.getfixturevalue("fake_server_type")

    @contextmanager
    def serve(ssl_config: Path) -> Iterator[str]:
        config = text_format.Parse(ssl_config.read_text(), SSLConfig())
        server = fake_server_type(
            tiny_metadata,
            credentials=grpc.ssl_server_credentials(
                [(config.server_key.encode(), config.server_cert.encode())],
                root_certificates=config.custom_ca.encode(),
                require_client_auth=config.client_verify,
            ),
        )
        try:
            yield server.address
        finally:
            server.stop()

    return serve


def refusal(address: str, client: Credentials | None) -> ServerError:
    with (
        RemoteSegmenter(address, timeout_s=10, credentials=client) as segmenter,
        pytest.raises(ServerError) as caught,
    ):
        segmenter.describe()
    return caught.value


def another_server(tls: Path, folder: Path, names: list[str], *, days: int = 825) -> Path:
    """ssl.config of the same authority, for other names or days."""
    shutil.copytree(tls, folder)
    for path in folder.glob("server.*"):
        path.unlink()
    ca = certificates.Signed.from_pem(
        (folder / "ca.crt").read_bytes(), (folder / "ca.key").read_bytes()
    )
    server = certificates.sign(ca, "server", names, days=days)
    config = SSLConfig(
        server_key=server.key_pem,
        server_cert=server.cert_pem,
        custom_ca=ca.cert_pem,
        client_verify=True,
    )
    (folder / "ssl.config").write_text(text_format.MessageToString(config))
    return folder / "ssl.config"


def test_a_client_with_a_certificate_is_served(
    tls: Path, serve: Serve, tiny_metadata: Metadata
) -> None:
    images = np.full((1, *tiny_metadata.image_size, 3), 2, np.uint8)
    with serve(tls / "ssl.config") as address:
        for host in (address, address.replace("127.0.0.1", "localhost")):
            with RemoteSegmenter(host, credentials=credentials(tls)) as segmenter:
                assert segmenter.describe().labels == tiny_metadata.labels
                assert (segmenter.segment(images) == 2).all()


def test_a_client_without_a_certificate_is_refused(tls: Path, serve: Serve) -> None:
    with serve(tls / "ssl.config") as address:
        error = refusal(address, Credentials(ca=tls / "ca.crt"))
    assert type(error) is ServerError
    assert "does not take the client's certificate, or wants one" in error.problem
    assert "--cert and --key" in error.next_step


def test_a_client_of_another_authority_is_refused(tls: Path, serve: Serve, tmp_path: Path) -> None:
    make_tls_files(tmp_path / "other", [], days=825)
    stranger = Credentials(
        ca=tls / "ca.crt", cert=tmp_path / "other/client.crt", key=tmp_path / "other/client.key"
    )
    with serve(tls / "ssl.config") as address:
        error = refusal(address, stranger)
    assert "does not take the client's certificate" in error.problem
    assert "one that its authority signed" in error.expected


def test_a_client_without_tls_is_told_of_the_flags(tls: Path, serve: Serve) -> None:
    with serve(tls / "ssl.config") as address:
        error = refusal(address, None)
    assert type(error) is ServerError
    assert "speaks TLS alone" in error.problem
    assert "--ca, --cert and --key" in error.next_step


def test_a_server_of_another_authority_is_refused(tls: Path, serve: Serve, tmp_path: Path) -> None:
    make_tls_files(tmp_path / "other", [], days=825)
    with serve(tls / "ssl.config") as address:
        error = refusal(address, credentials(tmp_path / "other"))
    assert type(error) is ServerError
    assert "the authority of --ca did not sign" in error.problem
    assert "ca.crt" in error.next_step


def test_a_server_of_another_name_is_refused(tls: Path, serve: Serve, tmp_path: Path) -> None:
    with serve(another_server(tls, tmp_path / "gpu1", ["gpu1.example.org"])) as address:
        error = refusal(address, credentials(tls))
    assert type(error) is ServerError
    assert f"the model server at {address} has a certificate for other names" in error.problem
    assert "--tls HOST --overwrite" in error.next_step


def test_a_server_whose_certificate_ended_is_refused(
    tls: Path, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "CLOCK_SKEW", timedelta(days=5))  # it began so long ago
    expired = another_server(tls, tmp_path / "old", ["127.0.0.1"], days=-1)
    with serve(expired) as address:
        error = refusal(address, credentials(tls))
    assert type(error) is ServerError
    assert "has a certificate that is not valid today" in error.problem


def test_a_server_without_tls_is_told_apart(
    tls: Path, tiny_metadata: Metadata, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("fake_server")
    error = refusal(server.address, credentials(tls))
    assert type(error) is ServerError
    assert "does not speak TLS" in error.problem
    assert "leave out --ca" in error.next_step


@pytest.mark.parametrize("count", range(10))  # which address gRPC tries last, changes
def test_the_reason_is_found_on_a_host_of_several_addresses(
    tls: Path, serve: Serve, count: int
) -> None:
    with serve(tls / "ssl.config") as address:
        error = refusal(address.replace("127.0.0.1", "localhost"), None)
    assert "speaks TLS alone" in error.problem


def test_where_nobody_listens_there_is_no_fault_of_tls(tls: Path, serve: Serve) -> None:
    with serve(tls / "ssl.config") as address:
        pass
    for client in (None, credentials(tls)):
        assert isinstance(refusal(address, client), ServerUnavailable)


def test_what_is_no_host_and_port_is_not_probed(tls: Path) -> None:
    assert find_fault("unix:/tmp/none", credentials(tls)) is None


# === The files ===


def fault(**files: Path | None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        Credentials(**files).to_grpc()  # type: ignore[arg-type]
    return caught.value


def test_half_a_pair_is_refused(tls: Path) -> None:
    cert, key = tls / "client.crt", tls / "client.key"
    assert "--cert is given without --key" in fault(ca=tls / "ca.crt", cert=cert).problem
    assert "--key is given without --cert" in fault(ca=tls / "ca.crt", key=key).problem


def test_a_missing_file_is_named(tls: Path) -> None:
    error = fault(ca=tls / "nope.crt")
    assert f"--ca '{tls / 'nope.crt'}' cannot be read: No such file" in error.problem
    assert "serve-config --tls" in error.next_step
    error = fault(ca=tls / "ca.crt", cert=tls / "nope.crt", key=tls / "client.key")
    assert "--cert" in error.problem


def test_a_garbled_file_is_named(tls: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    cert, key = tls / "client.crt", tls / "client.key"
    for text in ("junk", "-----BEGIN CERTIFICATE-----\nabcd\n-----END CERTIFICATE-----\n"):
        junk.write_text(text)
        assert "holds no certificate" in fault(ca=junk).problem
    assert "cannot be used" in fault(ca=tls / "ca.crt", cert=junk, key=key).problem
    assert "holds no private key" in fault(ca=tls / "ca.crt", cert=cert, key=junk).problem
    assert "holds no certificate" in fault(ca=tls / "ca.crt", cert=key, key=key).problem


def test_the_clients_certificate_is_no_authority(tls: Path) -> None:
    assert "is not the certificate of an authority" in fault(ca=tls / "client.crt").problem


def test_a_key_of_another_certificate_is_refused(tls: Path) -> None:
    error = fault(ca=tls / "ca.crt", cert=tls / "client.crt", key=tls / "server.key")
    assert f"'{tls / 'server.key'}' is not the key of --cert" in error.problem


def test_a_key_with_a_password_is_refused_and_not_asked_for(tls: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = certificates.Signed.from_pem(
        (tls / "client.crt").read_bytes(), (tls / "client.key").read_bytes()
    ).key
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    error = fault(ca=tls / "ca.crt", cert=tls / "client.crt", key=locked)
    assert "without a password" in error.expected


def test_the_certificates_last_as_long_as_was_asked(tls: Path) -> None:
    for role, days in (("server", 825), ("client", 825), ("ca", 3650)):
        pair = certificates.Signed.from_pem(
            (tls / f"{role}.crt").read_bytes(), (tls / f"{role}.key").read_bytes()
        )
        assert abs(pair.expires - datetime.now(UTC) - timedelta(days=days)) < timedelta(hours=1)
