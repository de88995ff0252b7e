from __future__ import annotations

import pytest

from dilithion_ws.util.secrets import mask_url


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:hush@127.0.0.1:6379/0", "redis://:********@127.0.0.1:6379/0"),
        ("redis://me:hu/sh@h/0", "redis://me:********@h/0"),
        ("rediss://us@er:hush@h", "rediss://us@er:********@h"),
        ("redis://:hu sh@h", "redis://:********@h"),
        ("redis://h/0?password=hush&db=1", "redis://h/0?password=********&db=1"),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("sqlite:/var/lib/events.db", "sqlite:/var/lib/events.db"),
    ],
)
def test_passwords_in_urls_are_masked(text: str, masked: str) -> None:
    assert mask_url(text) == masked
