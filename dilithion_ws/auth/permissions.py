"""The node's ten permissions and three roles, one of our own of each, and the permission that each method needs.

The table differs from the node's in one point. The node lets every role call methods that its table does not name, and
some of these spend money or change the chain. Here each of them has a permission, and a method that is neither in the
table nor registered with a permission is restricted to the role admin.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import IntFlag

from ..errors import ConfigError
from ..session import ALL_RIGHTS

__all__ = [
    "ALL_RIGHTS",
    "METHODS",
    "ROLES",
    "UNDECLARED",
    "WALLET_RIGHTS",
    "Permission",
    "format_rights",
    "parse_rights",
    "resolve_rights",
]

logger = logging.getLogger("dilithion_ws")


class Permission(IntFlag):
    """One thing that a user may be allowed to do. The bits are the node's."""

    READ_BLOCKCHAIN = 0x0001
    READ_WALLET = 0x0002
    READ_MEMPOOL = 0x0004
    READ_MINING = 0x0008
    WRITE_WALLET = 0x0010
    WRITE_MEMPOOL = 0x0020
    CONTROL_MINING = 0x0040
    CONTROL_NETWORK = 0x0080
    ADMIN_WALLET = 0x0100
    ADMIN_SERVER = 0x0200
    READ_METRICS = 0x0400
    """Of this server, not of the node: the numbers at `/metrics`, which tell who calls what."""


WALLET_RIGHTS = int(Permission.READ_WALLET | Permission.WRITE_WALLET | Permission.ADMIN_WALLET)
"""What a user who is restricted to some wallets may do in these only."""

UNDECLARED = 0x80000000
"""The right that a method needs if no permission was declared for it; only the role admin has it."""

ROLES: Mapping[str, int] = {"readonly": 0x000F, "wallet": 0x003F, "metrics": 0x0400, "admin": ALL_RIGHTS}

_TABLE = {
    Permission.READ_BLOCKCHAIN: """
        getblockcount getblock getblockhash getbestblockhash getblockchaininfo getchaintips gettxout getrawtransaction
        decoderawtransaction getnetworkinfo getpeerinfo testmempoolaccept
        getblocktrackerinfo checkchain getdfmpinfo getmikdistribution getfullmikdistribution getconnectioncount help
        getindexinfo verifyx402payment getx402info listbanned listbannedmiks getsybilrelays getcorrelatedalerts
        getholdercount gettopholders checkblockdb decodehtlc getmikattestation waitfornewblock waitforblock
        waitforblockheight gettxoutproof verifytxoutproof getdigitaldnastats getdnamonitor getmydigitaldna""",
    Permission.READ_WALLET: """
        getbalance getaddresses listunspent gettransaction listtransactions gethdwalletinfo listhdaddresses rescanwallet
        estimatesendfee getwalletinfo listswaps""",
    Permission.READ_MEMPOOL: "getmempoolinfo getrawmempool",
    Permission.READ_MINING: "getmininginfo getminingaddress",
    Permission.WRITE_WALLET: """
        getnewaddress sendtoaddress signrawtransaction createhdwallet clearwallettxs restorehdwallet
        consolidateutxos generatepreimage createhtlc claimhtlc refundhtlc initiateswap acceptswap settlex402payment""",
    Permission.WRITE_MEMPOOL: "sendrawtransaction",
    Permission.CONTROL_MINING: "startmining stopmining generatetoaddress setminingaddress setminingthreads",
    Permission.CONTROL_NETWORK: """
        addnode disconnectnode setban clearbanned banmik unbanmik requestblocks""",
    Permission.ADMIN_WALLET: """
        encryptwallet walletpassphrase walletlock walletpassphrasechange exportmnemonic dumpprivkey importprivkey""",
    Permission.ADMIN_SERVER: """
        stop forcerebuild savemempool repairblocks scanblockdb invalidateblock reconsiderblock collectdigitaldna""",
}

METHODS: Mapping[str, int] = {name: int(bit) for bit, names in _TABLE.items() for name in names.split()}
"""The right that each of the node's methods needs: plain numbers, since `&` of IntFlag takes 2 µs before Python 3.12."""


def resolve_rights(permission: str | None, what: str, default: int = UNDECLARED) -> int:
    """Return the rights that a declared permission stands for.

    A declaration that cannot be read is logged, and restricts its method or topic to the role admin.

    Args:
        permission: names of permissions, joined by `|`; None if nothing was declared.
        what: what was declared, for the log.
        default: the rights if nothing was declared.
    """
    if permission is None:
        return default
    try:
        return parse_rights(permission, f"the permission of {what}")
    except ConfigError as error:
        logger.error("%s; only the role admin may use it", error)
        return UNDECLARED


def parse_rights(text: str, what: str) -> int:
    """Return the rights that names of permissions stand for, joined by `|` or commas. Raise ConfigError for others."""
    rights = 0
    for name in text.replace("|", ",").split(","):
        try:
            rights |= int(Permission[name.strip().upper()])
        except KeyError:
            known = ", ".join(permission.name or "" for permission in Permission)
            raise ConfigError(f"{what} has {name.strip()!r}, which is not a permission; known are {known}") from None
    return rights


def format_rights(rights: int) -> str:
    """Return the names of the permissions in some rights, for a message."""
    names = [permission.name or "" for permission in Permission if rights & permission]
    return "|".join(names) or "the role admin"
