"""The reference of all keys, and the phrase for a limit that was reached."""

from __future__ import annotations

import pytest

from dilithion_ws import Config, ConfigError, Limits
from dilithion_ws.config.config import SETTINGS
from dilithion_ws.config.limits import limit_reached
from dilithion_ws.config.reference import reference_page, settings_rows, shown_value


def test_the_page_has_a_line_for_every_key() -> None:
    lines = reference_page().splitlines()
    for key, setting in SETTINGS.items():
        assert sum(line.startswith(f"| `{key}` | `{setting.option}` |") for line in lines) == 1


def test_a_table_of_settings_has_a_heading_and_their_defaults() -> None:
    rows = settings_rows([SETTINGS["rpcbind"], SETTINGS["rpcuser"]])
    assert rows == [
        "| key | option | default | meaning |",
        "|---|---|---|---|",
        "| `rpcbind` | `--bind` | 127.0.0.1,::1 | Addresses to listen on. |",
        "| `rpcuser` | `--rpcuser` |   | Name of the one user, who may do everything. |",
    ]


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("rpcpassword", "hush", "********"),
        ("rpcpassword", "", ""),
        ("rpcwebsocketpage", True, "1"),
        ("rpcallowip", ("10.0.0.0/8", "::1"), "10.0.0.0/8,::1"),
        ("rpcwebsocketstallafter", 0.02, "0.02"),
        ("rpcwebsocketport", 8333, "8333"),
    ],
)
def test_values_are_shown_as_a_file_has_them(key: str, value: object, shown: str) -> None:
    assert shown_value(SETTINGS[key], value) == shown


def test_a_limit_is_named_with_its_value_and_setting() -> None:
    assert limit_reached(Limits(), "batch_size") == "batch size limit of 100 calls (rpcwebsocketbatchsize)"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"client_ca": "ca.pem"}, "rpcsslcapath needs"),
        ({"allow_ips": ("x",)}, "rpcallowip"),
        ({"trusted_proxies": ("x",)}, "rpcwebsockettrustedproxies"),
        ({"proxy_protocol": True}, "rpcwebsocketproxyprotocol needs"),
        ({"method_rates": ("a=b",)}, "NAME=CAPACITY/REFILL"),
        ({"method_timeouts": ("a=0",)}, "NAME=SECONDS"),
        ({"method_timeouts": ("=5",)}, "NAME=SECONDS"),
        ({"method_timeouts": ("a=nan",)}, "NAME=SECONDS"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(**settings)  # type: ignore[arg-type]
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [("deflate_level", 99, "at most 9"), ("workers", True, "a whole number"), ("login_queue", -1, "login_queue")],
)
def test_a_number_out_of_bounds_is_refused_with_what_is_accepted(limit: str, value: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Limits.from_names(**{limit: value})
    assert words in str(caught.value)
