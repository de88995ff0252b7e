"""Which store the configuration asks for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dilithion_ws import Config, ConfigError
from dilithion_ws.stores.factory import make_store
from dilithion_ws.stores.redis_store import RedisStore
from dilithion_ws.stores.sqlite_store import SqliteStore


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("memory", type(None)),
        ("sqlite:{path}", SqliteStore),
        ("redis://127.0.0.1:1/0", RedisStore),
        ("rediss://127.0.0.1:1/0", RedisStore),
    ],
)
def test_the_scheme_selects_the_store(text: str, kind: type, tmp_path: Path) -> None:
    assert type(make_store(Config(event_store=text.format(path=tmp_path / "events.db")))) is kind


def test_without_its_library_redis_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dilithion_ws.stores.redis_store", None)
    with pytest.raises(ConfigError, match=r"needs the package redis: pip install redis"):
        make_store(Config(event_store="redis://127.0.0.1:1/0"))


def test_a_url_that_redis_does_not_accept_is_an_error() -> None:
    with pytest.raises(ConfigError, match="rpcwebsocketeventstore"):
        make_store(Config(event_store="redis://127.0.0.1:port/0"))
