from __future__ import annotations

import pytest

from dilithion_ws.util.ip import network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a:b:nonsense", "a:b:nonsense"),
    ],
)
def test_one_host_is_one_client_for_the_limits(address: str, network: str) -> None:
    assert network_of(address) == network
