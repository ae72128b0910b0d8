"""The addresses of --view; how the server answers is in test_page.py."""

from __future__ import annotations

import pytest

from segkit.errors import ConfigError
from segkit.video.sinks.page_server import parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("http://0.0.0.0:8080", ("0.0.0.0", 8080)),
        ("http://box.local:80/", ("box.local", 80)),
        ("[::1]:8080", ("::1", 8080)),
        ("8080", ("127.0.0.1", 8080)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "box", ":8080", "box:", "box:99999", "box:http", "a:1/x", "u@a:1", "https://a:1"]
)
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="no address") as caught:
        parse_address(text)
    assert "127.0.0.1:8080" in caught.value.expected
