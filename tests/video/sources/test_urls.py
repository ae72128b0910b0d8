"""Passwords in URLs are never shown."""

from __future__ import annotations

import pytest

from segkit.video.sources.urls import hide_credentials, scheme_of


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.2:554/s?x=1", "rtsp://admin:***@10.0.0.2:554/s?x=1"),
        ("rtsp://admin:1234@camera/s", "rtsp://admin:***@camera/s"),
        ("rtsp://admin:p@ss:w@camera/s", "rtsp://admin:***@camera/s"),
        ("rtsp://admin:pa/ss@camera/s", "rtsp://admin:***@camera/s"),
        ("rtsp://:secret@camera", "rtsp://:***@camera"),
        ("http://h/v.mp4?token=abc&x=2&api_key=zz", "http://h/v.mp4?token=***&x=2&api_key=***"),
        ("http://h/v?user=me&Password=abc", "http://h/v?user=me&Password=***"),
        (
            "rtsp://h/user=admin_password=tlJw_channel=1",
            "rtsp://h/user=admin_password=***_channel=1",
        ),
        ("see rtsp://a:b@h/x, or http://c:d@h", "see rtsp://a:***@h/x, or http://c:***@h"),
    ],
)
def test_passwords_are_hidden(url: str, shown: str) -> None:
    assert hide_credentials(url) == shown
    assert hide_credentials(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://camera:554/stream@2",
        "rtsp://admin@camera/s",
        "http://127.0.0.1:8080/video.mp4?start=3",
        "videos/monkey=1.mp4",
        "clip.mp4",
    ],
)
def test_the_rest_is_shown(text: str) -> None:
    assert hide_credentials(text) == text


def test_schemes() -> None:
    assert scheme_of("RTSP://camera") == "rtsp"
    assert scheme_of("C:\\videos\\a.mp4") is None
    assert scheme_of("clip.mp4") is None
