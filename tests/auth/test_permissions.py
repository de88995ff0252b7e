"""The permission table of the node: every method, every role."""

from __future__ import annotations

import pytest

from dilithion_ws import ConfigError
from dilithion_ws.auth.permissions import (
    ALL_RIGHTS,
    METHODS,
    ROLES,
    UNDECLARED,
    Permission,
    format_rights,
    parse_rights,
    resolve_rights,
)
from dilithion_ws.rpc.method import Method, MethodOptions

NODE_TABLE = {
    "READ_BLOCKCHAIN": "getblockcount getblock getblockhash getbestblockhash getblockchaininfo getchaintips gettxout "
    "getrawtransaction decoderawtransaction getnetworkinfo getpeerinfo testmempoolaccept",
    "READ_WALLET": "getbalance getaddresses listunspent gettransaction listtransactions gethdwalletinfo listhdaddresses "
    "rescanwallet",
    "READ_MEMPOOL": "getmempoolinfo getrawmempool",
    "READ_MINING": "getmininginfo",
    "WRITE_WALLET": "getnewaddress sendtoaddress signrawtransaction createhdwallet clearwallettxs restorehdwallet",
    "WRITE_MEMPOOL": "sendrawtransaction",
    "CONTROL_MINING": "startmining stopmining generatetoaddress",
    "CONTROL_NETWORK": "addnode",
    "ADMIN_WALLET": "encryptwallet walletpassphrase walletlock walletpassphrasechange exportmnemonic dumpprivkey "
    "importprivkey",
    "ADMIN_SERVER": "stop forcerebuild savemempool",
}
BITS = {
    "READ_BLOCKCHAIN": 0x0001,
    "READ_WALLET": 0x0002,
    "READ_MEMPOOL": 0x0004,
    "READ_MINING": 0x0008,
    "WRITE_WALLET": 0x0010,
    "WRITE_MEMPOOL": 0x0020,
    "CONTROL_MINING": 0x0040,
    "CONTROL_NETWORK": 0x0080,
    "ADMIN_WALLET": 0x0100,
    "ADMIN_SERVER": 0x0200,
}
ROLE_BITS = {"readonly": 0x000F, "wallet": 0x003F, "admin": 0xFFFFFFFF}
ROWS = [(name, bit) for bit, names in NODE_TABLE.items() for name in names.split()]


def test_bits_and_roles_are_the_nodes() -> None:
    assert {permission.name: int(permission) for permission in Permission} == {**BITS, "READ_METRICS": 0x0400}
    assert dict(ROLES) == {**ROLE_BITS, "metrics": 0x0400}
    assert len(ROWS) == 44


@pytest.mark.parametrize("role", ROLE_BITS)
@pytest.mark.parametrize(("method", "bit"), ROWS)
def test_every_method_of_the_node_for_every_role(method: str, bit: str, role: str) -> None:
    need = METHODS[method]
    assert need == BITS[bit]
    assert (ROLES[role] & need == need) is bool(ROLE_BITS[role] & BITS[bit])


SENSITIVE = """consolidateutxos createhtlc claimhtlc refundhtlc initiateswap acceptswap settlex402payment invalidateblock
reconsiderblock repairblocks scanblockdb setban clearbanned disconnectnode banmik setminingaddress setminingthreads
requestblocks"""


@pytest.mark.parametrize("method", SENSITIVE.split())
def test_spenders_and_chain_surgery_are_not_for_readers(method: str) -> None:
    need = METHODS[method]
    assert ROLES["readonly"] & need != need


@pytest.mark.parametrize("method", ["nosuch", "collectmorethings", "x.y"])
def test_undeclared_methods_are_restricted_to_the_role_admin(method: str) -> None:
    assert Method(method, lambda: None, MethodOptions()).required_rights == UNDECLARED
    assert [role for role, rights in ROLES.items() if rights & UNDECLARED == UNDECLARED] == ["admin"]


def test_a_declared_permission_overrides_the_table(caplog: pytest.LogCaptureFixture) -> None:
    assert Method("getblockcount", lambda: None, MethodOptions(permission="ADMIN_SERVER")).required_rights == 0x200
    assert resolve_rights("read_wallet | WRITE_WALLET", "x") == 0x12
    with pytest.raises(ConfigError, match="'FLY', which is not a permission; known are READ_BLOCKCHAIN"):
        parse_rights("FLY", "here")
    assert resolve_rights("FLY", "method x", 0x1) == UNDECLARED, "a mistake must not open a method"
    assert "only the role admin may use it" in caplog.text


def test_names() -> None:
    assert format_rights(0x12) == "READ_WALLET|WRITE_WALLET"
    assert format_rights(UNDECLARED) == "the role admin"
    assert parse_rights("READ_MINING,READ_MEMPOOL", "here") == 0x0C
    assert all(0 < bits < ALL_RIGHTS for bits in METHODS.values())
