"""EMAIL_URL, as operators write it."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from gateway.settings import _mail_server


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtps://bursar:p%40ss@smtp.example.com", ("smtp.example.com", 465, "bursar", "p@ss", True)),
        ("smtp://bursar:pw@smtp.example.com", ("smtp.example.com", 587, "bursar", "pw", False)),
        ("smtp://relay.internal", ("relay.internal", 25, "", "", False)),
        ("smtp://relay.internal:2525", ("relay.internal", 2525, "", "", False)),
    ],
)
def test_a_mail_server(url: str, server: tuple[str, int, str, str, bool]) -> None:
    assert _mail_server(url) == server


@pytest.mark.parametrize("url", ["smtp.example.com", "http://smtp.example.com", "smtp://", "smtp://host:secret"])
def test_what_is_none_is_named(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="EMAIL_URL") as refused:
        _mail_server(url)
    assert "secret" not in str(refused.value)
