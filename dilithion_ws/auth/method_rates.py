"""How often a method may be called: the node's table, as (calls at once, calls a second)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..config.config import parse_method_rate
from .rate_limiter import Rate

__all__ = ["DEFAULT_METHOD", "METHOD_RATES", "method_rates"]

DEFAULT_METHOD = "default"

_TABLE = {
    1: "forcerebuild",
    5: "walletpassphrase walletpassphrasechange encryptwallet dumpprivkey importprivkey",
    10: "sendtoaddress sendrawtransaction waitfornewblock waitforblock waitforblockheight",
    20: "getnewaddress createhdwallet restorehdwallet exportmnemonic startmining stopmining generatetoaddress",
    100: "testmempoolaccept",
    200: "signrawtransaction gettransaction listtransactions listunspent getaddresses listhdaddresses",
    500: "getblock getrawtransaction decoderawtransaction",
}

METHOD_RATES: Mapping[str, Rate] = {
    **{name: Rate(capacity, capacity / 60) for capacity, names in _TABLE.items() for name in names.split()},
    DEFAULT_METHOD: Rate(10, 1000 / 60),
}
"""The node's table; its last row is for every other method."""


def method_rates(changes: Iterable[str]) -> dict[str, Rate]:
    """The table with changes, each `name=CAPACITY/REFILL`; the name `default` stands for every other method."""
    rates = dict(METHOD_RATES)
    for text in changes:
        change = parse_method_rate(text)
        rates[change.method] = Rate(change.capacity, change.refill)
    return rates
