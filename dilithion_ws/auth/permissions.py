"""What a user may do: the node's ten permissions, its three roles, and the permission that each method needs.

The table is the node's own, with one difference. The node lets every role call a method that its table does not name,
spenders and chain surgery among them. Here each of those has a permission, and a method that is neither in the table nor
registered with a permission is for the role admin alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntFlag

from ..errors import ConfigError

__all__ = ["ALL_RIGHTS", "METHODS", "ROLES", "UNDECLARED", "Permission", "names_of", "needed", "parse_rights"]


class Permission(IntFlag):
    """One thing that a user may be allowed to do; the node's bits."""

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


ALL_RIGHTS = 0xFFFFFFFF
UNDECLARED = 0x80000000
"""What a method needs of which nobody said what it needs; only the role admin has it."""

ROLES: Mapping[str, int] = {"readonly": 0x000F, "wallet": 0x003F, "admin": ALL_RIGHTS}

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
"""The permission that each of the node's methods needs; plain numbers, since IntFlag's `&` takes 2 µs of every call."""


def needed(method: str, declared: str | None) -> int:
    """The rights that a call needs.

    Args:
        method: its name.
        declared: what it was registered with: names of permissions, joined by `|`.

    Raises:
        ConfigError: a name is no permission.
    """
    if declared is not None:
        return parse_rights(declared, f"the permission of {method}")
    return METHODS.get(method, UNDECLARED)


def parse_rights(text: str, what: str) -> int:
    """Rights from names of permissions, joined by `|` or commas; raises ConfigError where one is unknown."""
    rights = 0
    for name in text.replace("|", ",").split(","):
        try:
            rights |= int(Permission[name.strip().upper()])
        except KeyError:
            known = ", ".join(permission.name or "" for permission in Permission)
            raise ConfigError(f"{what} has {name.strip()!r}, which is no permission; known are {known}") from None
    return rights


def names_of(rights: int) -> str:
    """The permissions in some rights, for a message."""
    names = [permission.name or "" for permission in Permission if rights & permission]
    return "|".join(names) or "the role admin"
