from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws.auth.origin_policy import OriginPolicy, _host_of
from dilithion_ws.util.ip import parse_address

LOCAL = OriginPolicy(["127.0.0.1"])
PUBLIC = OriginPolicy(["0.0.0.0"], ["node.example"], ["https://wallet.example/"])


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost", None),
        ("localhost:8333", None),
        ("127.0.0.1:8333", None),
        ("127.8.8.8", None),
        ("[::1]:8333", None),
        ("LOCALHOST.", None),
        ("localhost:8333", "http://localhost:8333"),
        ("localhost:8333", "http://localhost:3000"),
        ("127.0.0.1:8333", "https://[::1]:3000"),
        ("localhost:8333", "http://127.0.0.1"),
    ],
)
def test_allowed_while_bound_to_loopback(host: str, origin: str | None) -> None:
    assert LOCAL.check(host, origin) is None


@pytest.mark.parametrize(
    ("host", "origin", "word"),
    [
        ("evil.example", None, "Host"),
        ("evil.example:8333", "http://evil.example:8333", "Host"),
        ("localhost.evil.example", None, "Host"),
        ("127.0.0.1.evil.example", None, "Host"),
        ("10.0.0.1", None, "Host"),
        ("", None, "Host"),
        ("a@localhost", None, "Host"),
        ("localhost:x", None, "Host"),
        ("localhost/path", None, "Host"),
        ("[::1", None, "Host"),
        ("localhost", "https://evil.example", "Origin"),
        ("localhost", "null", "Origin"),
        ("localhost", "", "Origin"),
        ("localhost", "file://", "Origin"),
        ("localhost", "http://localhost.evil.example", "Origin"),
        ("localhost", "http://localhost@evil.example", "Origin"),
        ("localhost", "http://[::1", "Origin"),
        ("localhost", "chrome-extension://abc", "Origin"),
    ],
)
def test_refused_while_bound_to_loopback(host: str, origin: str | None, word: str) -> None:
    refusal = LOCAL.check(host, origin)
    assert refusal is not None
    assert refusal.startswith(f"the {word} ")
    assert "(rpcwebsocketallow" in refusal


def test_bound_to_all_addresses() -> None:
    assert PUBLIC.check("192.0.2.1:8333", None) is None
    assert PUBLIC.check("node.example", "https://wallet.example") is None
    assert PUBLIC.check("node.example:8333", "https://node.example:8333") is None
    assert PUBLIC.check("other.example", None) is not None
    assert PUBLIC.check("node.example", "http://localhost:3000") is not None, "loopback pages are strangers now"
    assert PUBLIC.check("node.example", "https://wallet.example.evil") is not None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("node.example:443", "wss://node.example"),
        ("node.example", "https://node.example:443"),
        ("node.example:80", "ws://node.example:80"),
        ("node.example:8333", "ws://node.example:8333/"),
        ("node.example:8333", "https://WALLET.example"),
        ("node.example:8333", "wss://wallet.example:443/"),
    ],
)
def test_origins_are_compared_by_scheme_host_and_port(host: str, origin: str) -> None:
    assert PUBLIC.check(host, origin) is None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("node.example:8333", "https://node.example"),
        ("node.example", "https://node.example:8333"),
        ("node.example", "http://wallet.example"),
        ("node.example", "https://wallet.example:8443"),
        ("node.example", "https://wallet.example:0"),
        ("node.example", "https://x@wallet.example"),
        ("node.example", "https://wallet.example/page"),
        ("node.example", "ftp://node.example"),
    ],
)
def test_another_scheme_host_or_port_is_foreign(host: str, origin: str) -> None:
    assert PUBLIC.check(host, origin) is not None


@pytest.mark.parametrize("origin", ["file://", "null", "app://localhost", "capacitor://localhost"])
def test_origins_of_apps_can_be_configured(origin: str) -> None:
    assert OriginPolicy(["127.0.0.1"], origins=[origin]).check("localhost", origin) is None
    assert LOCAL.check("localhost", origin) is not None


def test_a_star_allows_every_origin_and_no_other_host() -> None:
    rules = OriginPolicy(["127.0.0.1"], origins=["*"])
    assert rules.check("localhost", "null") is None
    assert rules.check("evil.example", "null") is not None


@given(st.text(max_size=30), st.none() | st.text(max_size=30))
def test_whatever_comes_has_an_answer(host: str, origin: str | None) -> None:
    assert LOCAL.check(host, origin) is None or isinstance(LOCAL.check(host, origin), str)


def test_long_names_are_refused_and_not_remembered() -> None:
    """What answers are kept of must be short, since strangers choose it."""
    long = "a" * 16_000
    before = _host_of.cache_info().currsize, parse_address.cache_info().currsize
    for number in range(50):
        assert LOCAL.check(f"{long}{number}", None) is not None
        assert LOCAL.check("localhost", f"http://{long}{number}") is not None
    assert parse_address.cache_info().currsize == before[1]
    assert _host_of.cache_info().currsize <= before[0] + 1
