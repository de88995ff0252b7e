"""How often each method may be called: the node's table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..config.config import parse_method_rate
from .rate_limiter import Rate

__all__ = ["DEFAULT_METHOD", "METHOD_RATES", "method_rates"]

DEFAULT_METHOD = "default"
"""The name that stands for every method without a row of its own."""

_TABLE = {
    1: "forcerebuild",
    5: "walletpassphrase walletpassphrasechange encryptwallet dumpprivkey importprivkey",
    10: "sendtoaddress sendrawtransaction waitfornewblock waitforblock waitforblockheight api/v1/broadcast",
    20: "getnewaddress createhdwallet restorehdwallet exportmnemonic startmining stopmining generatetoaddress",
    100: "testmempoolaccept",
    200: "signrawtransaction gettransaction listtransactions listunspent getaddresses listhdaddresses api/v1/utxos",
    500: "getblock getrawtransaction decoderawtransaction api/v1/balance api/v1/tx",
    1000: "api/v1/info api/v1/fee",
}

METHOD_RATES: Mapping[str, Rate] = {
    **{name: Rate(capacity, capacity / 60) for capacity, names in _TABLE.items() for name in names.split()},
    DEFAULT_METHOD: Rate(10, 1000 / 60),
}


def method_rates(overrides: Iterable[str]) -> dict[str, Rate]:
    """Return the table with overrides, each `NAME=CAPACITY/REFILL`. The name `default` stands for all other methods."""
    rates = dict(METHOD_RATES)
    for text in overrides:
        override = parse_method_rate(text)
        rates[override.method] = Rate(override.capacity, override.refill)
    return rates
