"""The folder of keys: made once, used again, never replaced without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from google.protobuf import text_format

from segkit.errors import ConfigError
from segkit.serving.containers import certificates
from segkit.serving.containers.tls import check_hosts, check_ssl_config, make_tls_files
from segkit.serving.server_config_pb2 import SSLConfig

FILES = ["ca.crt", "ca.key", "client.crt", "client.key", "server.crt", "server.key"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tls"


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def refused(folder: Path, *hosts: str) -> str:
    before = contents(folder)
    with pytest.raises(ConfigError) as caught:
        make_tls_files(folder, hosts, days=825)
    assert contents(folder) == before
    assert caught.value.expected and caught.value.next_step
    return str(caught.value)


def test_keys_are_their_owners_alone(folder: Path) -> None:
    made = make_tls_files(folder, ["gpu1"], days=825)
    assert sorted(path.name for path in made.written) == sorted(contents(folder)) == FILES
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == (0o600 if path.suffix == ".key" else 0o644)


def test_the_server_has_the_names_that_were_given_and_this_machines(folder: Path) -> None:
    made = make_tls_files(folder, ["gpu1.example.org", "10.0.0.5", "::1", "localhost"], days=825)
    assert made.server.names == ("gpu1.example.org", "10.0.0.5", "::1", "localhost", "127.0.0.1")
    (sans,) = [
        extension.value
        for extension in made.server.cert.extensions
        if isinstance(extension.value, x509.SubjectAlternativeName)
    ]
    kinds = {type(name) for name in sans}
    assert kinds == {x509.DNSName, x509.IPAddress}
    assert made.client.names == ()
    assert made.ca.is_authority and not made.server.is_authority


def test_the_configuration_holds_what_the_server_needs(folder: Path) -> None:
    made = make_tls_files(folder, [], days=825)
    config = text_format.Parse(made.ssl_config, SSLConfig())
    assert config.client_verify
    assert config.server_key == (folder / "server.key").read_text()
    assert config.server_cert == (folder / "server.crt").read_text()
    assert config.custom_ca == (folder / "ca.crt").read_text()
    assert (folder / "ca.key").read_text() not in made.ssl_config


def test_a_second_run_changes_nothing(folder: Path) -> None:
    make_tls_files(folder, ["gpu1"], days=825)
    before = contents(folder)
    assert make_tls_files(folder, ["gpu1"], days=825, overwrite=True).written == ()
    assert contents(folder) == before


def test_other_names_need_overwrite_and_keep_the_authority(folder: Path) -> None:
    make_tls_files(folder, ["gpu1"], days=825)
    before = contents(folder)
    message = refused(folder, "gpu2")
    assert "server.crt' is for gpu1, localhost, 127.0.0.1" in message and "--overwrite" in message
    made = make_tls_files(folder, ["gpu2"], days=825, overwrite=True)
    assert {path.name for path in made.written} == {"server.crt", "server.key"}
    after = contents(folder)
    assert {name for name in FILES if before[name] == after[name]} == {
        "ca.crt",
        "ca.key",
        "client.crt",
        "client.key",
    }


def test_a_certificate_that_ends_soon_is_made_again_on_request(folder: Path) -> None:
    made = make_tls_files(folder, [], days=20)
    assert f"server.crt' ends on {made.server.expires:%Y-%m-%d}" in refused(folder)
    again = make_tls_files(folder, [], days=825, overwrite=True)
    assert len(again.written) == 4


def test_a_certificate_of_another_authority_is_refused(folder: Path, tmp_path: Path) -> None:
    make_tls_files(folder, [], days=825)
    other = tmp_path / "other"
    make_tls_files(other, [], days=825)
    for name in ("client.crt", "client.key"):
        (folder / name).write_text((other / name).read_text())
    assert "client.crt' was signed by another authority" in refused(folder)


def test_an_authority_that_ends_soon_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "CA_DAYS", 10)
    with pytest.raises(ConfigError, match="the authority .* ends on .*"):
        make_tls_files(folder, [], days=825)
    assert contents(folder) == {}


def test_no_certificate_outlasts_its_authority(folder: Path) -> None:
    made = make_tls_files(folder, [], days=10_000)
    assert made.server.expires == made.ca.expires


def test_half_a_pair_is_refused(folder: Path) -> None:
    make_tls_files(folder, [], days=825)
    (folder / "ca.key").unlink()
    assert f"there is '{folder / 'ca.crt'}', but no '{folder / 'ca.key'}'" in refused(folder)


def test_a_key_of_another_certificate_is_refused(folder: Path) -> None:
    make_tls_files(folder, [], days=825)
    (folder / "ca.key").write_text((folder / "server.key").read_text())
    assert "the key is that of another certificate" in refused(folder)


def test_a_file_that_is_none_is_refused(folder: Path) -> None:
    make_tls_files(folder, [], days=825)
    (folder / "client.crt").write_text("junk")
    assert "client.crt' and " in refused(folder)


def test_a_certificate_that_may_not_sign_is_no_authority(folder: Path) -> None:
    make_tls_files(folder, [], days=825)
    for suffix in (".crt", ".key"):
        (folder / f"ca{suffix}").write_text((folder / f"server{suffix}").read_text())
    assert "ca.crt' is not the certificate of an authority" in refused(folder)


def test_a_folder_that_is_open_to_others_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    assert "is open to others (mode 755)" in refused(folder)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made: Not a directory"):
        make_tls_files(tmp_path / "file" / "tls", [], days=825)


@pytest.mark.parametrize("host", ["gpu1:8500", "", "a b", "http://gpu1", "-x", "a..b"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="is no host"):
        check_hosts([host])


@pytest.mark.parametrize("host", ["gpu1", "gpu1.example.org", "*.example.org", "10.0.0.5", "::1"])
def test_names_and_addresses_are_hosts(host: str) -> None:
    check_hosts([host])


def test_the_configuration_is_checked(folder: Path, tmp_path: Path) -> None:
    ssl_config = tmp_path / "ssl.config"
    made = make_tls_files(folder, [], days=825)
    ssl_config.write_text(made.ssl_config)
    assert check_ssl_config(ssl_config).expires == made.server.expires
    ssl_config.write_text(made.ssl_config.replace("server_cert", "custom_ca_", 1))
    with pytest.raises(ConfigError, match="Invalid protobuf file"):
        check_ssl_config(ssl_config)
    config = SSLConfig(server_key=made.client.key_pem, server_cert=made.server.cert_pem)
    ssl_config.write_text(text_format.MessageToString(config))
    with pytest.raises(ConfigError, match="the key is that of another certificate"):
        check_ssl_config(ssl_config)
    short = certificates.sign(made.ca, "server", [], days=9)
    config = SSLConfig(server_key=short.key_pem, server_cert=short.cert_pem)
    ssl_config.write_text(text_format.MessageToString(config))
    with pytest.raises(ConfigError, match="ends on"):
        check_ssl_config(ssl_config)
