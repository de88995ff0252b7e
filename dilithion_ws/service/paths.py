"""The paths of requests and upgrades."""

from __future__ import annotations

from urllib.parse import unquote

from ..rpc.table import RpcTable
from ..util.enums import RpcDialect

__all__ = ["is_endpoint", "wallet_of"]

_WALLET = "/wallet/"


def wallet_of(path: str, table: RpcTable) -> str | None:
    """Return the wallet that a path names, or None if it names none or there are no wallets."""
    if table.dialect is not RpcDialect.CORE or not path.startswith(_WALLET):
        return None
    return unquote(path.removeprefix(_WALLET))


def is_endpoint(path: str, table: RpcTable) -> bool:
    """Return whether JSON-RPC is served under a path."""
    return path == "/" or wallet_of(path, table) is not None
