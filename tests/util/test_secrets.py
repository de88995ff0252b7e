from __future__ import annotations

import pytest

from dilithion_ws.util.secrets import mask_url


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:hush@127.0.0.1:6379/0", "redis://:********@127.0.0.1:6379/0"),
        ("redis://me:hu/sh@h/0", "redis://me:********@h/0"),
        ("event_store='rediss://me:hush@h'", "event_store='rediss://me:********@h'"),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("sqlite:/var/lib/events.db", "sqlite:/var/lib/events.db"),
    ],
)
def test_passwords_in_urls_are_masked(text: str, masked: str) -> None:
    assert mask_url(text) == masked
