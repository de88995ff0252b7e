"""The page, and what its content security policy allows."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from dilithion_ws.service import page as module
from dilithion_ws.service.page import client_script, page


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Have the page read from its file again."""
    module._parts.cache_clear()


def header(name: str) -> str:
    found = dict(page("node.example:8333").headers)
    return found[name.encode()].decode()


@pytest.mark.parametrize(("tag", "others"), [("script", "'self' "), ("style", "")])
def test_the_policy_names_the_hash_of_the_page_s_own_code(tag: str, others: str) -> None:
    (content,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page("x").body.decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert f"{tag}-src {others}'sha256-{digest}'" in header("Content-Security-Policy")


def test_the_policy_allows_connections_to_the_server_only() -> None:
    assert "connect-src 'self' ws://node.example:8333 wss://node.example:8333;" in header("Content-Security-Policy")
    assert header("Content-Security-Policy").startswith("default-src 'none';")


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-cache")],
)
def test_the_page_has_the_headers_of_a_careful_site(name: str, value: str) -> None:
    assert header(name) == value


def test_the_page_stores_nothing_in_the_browser() -> None:
    code = page("x").body.decode() + client_script().decode()
    assert [name for name in ("localStorage", "sessionStorage", "indexedDB", "document.cookie") if name in code] == []


def test_the_page_is_html() -> None:
    answer = page("x")
    assert (answer.status, answer.content_type) == (200, "text/html; charset=utf-8")
