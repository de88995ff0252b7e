from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws.protocol.request_target import parse_target


@pytest.mark.parametrize(
    ("method", "target", "path", "authority"),
    [
        ("GET", "/health?x=1", "/health?x=1", None),
        ("GET", "//x", "//x", None),
        ("GET", "http://localhost:8333/health", "/health", "localhost:8333"),
        ("POST", "http://localhost", "/", "localhost"),
        ("GET", "https://[::1]:8333/?a=b", "/?a=b", "[::1]:8333"),
        ("OPTIONS", "*", "*", None),
    ],
)
def test_forms_that_are_served(method: str, target: str, path: str, authority: str | None) -> None:
    assert parse_target(method, target) == (path, authority)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "*"),
        ("CONNECT", "localhost:80"),
        ("GET", "ftp://localhost/"),
        ("GET", "http:///health"),
        ("GET", "http://user:x@localhost/"),
        ("GET", "http://[::1/"),
        ("GET", "health"),
    ],
)
def test_forms_that_are_not(method: str, target: str) -> None:
    assert parse_target(method, target) is None


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126)))
def test_whatever_is_sent_has_a_verdict(target: str) -> None:
    found = parse_target("GET", target)
    assert found is None or found.path.startswith("/")
