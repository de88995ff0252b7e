"""The dialect of the Dilithion node, with what keeps clients out of its traps. No I/O.

The node takes most params by name only, misreads some that are given by name, and truncates amounts that a double can't
hold. Here each call is put so that the node understands what the client meant; where there is no such way, the client
gets an error and the node gets nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from ... import NODE_METHODS, JsonRpcCode, RpcError
from .base import Dialect

__all__ = ["DILITHION"]

_NAMES_TEXT = """
getblockhash height; getblock hash verbosity; gettxout txid n; gettxoutproof txids blockhash; verifytxoutproof proof;
gettopholders count prefix; getrawtransaction txid verbose; decoderawtransaction hex; signrawtransaction hex;
sendrawtransaction hex; testmempoolaccept rawtxs maxfeerate; gettransaction txid; listtransactions count;
encryptwallet passphrase; walletpassphrase passphrase timeout; walletpassphrasechange oldpassphrase newpassphrase;
createhdwallet passphrase; restorehdwallet mnemonic passphrase; dumpprivkey address; importprivkey privkey pubkey;
setminingthreads threads; addnode node command; disconnectnode address; setban ip command bantime; banmik mik;
unbanmik mik; stop confirm; forcerebuild reason; invalidateblock blockhash; reconsiderblock blockhash;
repairblocks dry_run; requestblocks hashes; createhtlc amount recipient_address hash_lock timeout_blocks;
claimhtlc htlc_txid htlc_vout preimage; refundhtlc htlc_txid htlc_vout; decodehtlc htlc_txid vout;
consolidateutxos max_inputs address;
sendtoaddress address amount from_address; estimatesendfee address amount from_address
"""
_NAMES: Mapping[str, tuple[str, ...]] = {
    words[0]: tuple(words[1:]) for line in _NAMES_TEXT.split(";") if (words := line.split())
}
"""Names of positional params, in the order in which the node's documentation has them."""

_TAKES_ARRAY = {"setban", "setminingthreads"}
_PAYS = {"sendtoaddress", "estimatesendfee"}
_AMOUNTS = {*_PAYS, "createhtlc", "initiateswap", "acceptswap"}

_SLOW = """rescanwallet encryptwallet walletpassphrase walletpassphrasechange signrawtransaction sendrawtransaction
sendtoaddress consolidateutxos createhdwallet restorehdwallet importprivkey repairblocks scanblockdb checkblockdb
checkchain invalidateblock reconsiderblock getholdercount gettopholders clearwallettxs"""
_SLOW_SECONDS = 300.0
_TIP_READS = """getblockcount getbestblockhash getblockhash getblock getblockchaininfo gettxoutproof getholdercount
gettopholders getdfmpinfo getmikdistribution getfullmikdistribution"""

_DEPTH = 10
_COIN = 10**8
_SMALLEST = Decimal("0.0001")
"""A number below it is written as `1e-05` inside of the node, and read as 1."""
_NUMBER = re.compile(rb'"?(-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)"?')
_MAX_AMOUNT_DIGITS = 40
"""Characters of an amount."""
_HALF_AN_ION = Decimal("0.000000005")

_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class _Dilithion(Dialect):
    name = "dilithion"
    headers: Mapping[str, str] = {"X-Dilithion-RPC": "1"}
    """Spelled so: the node knows no other."""
    permissions = dict.fromkeys(NODE_METHODS)  # the server knows their permissions by itself
    names = _NAMES
    tip_reads = frozenset(_TIP_READS.split())
    timeouts = dict.fromkeys(_SLOW.split(), _SLOW_SECONDS)
    max_batch = 100
    max_body = 2 * 1024 * 1024

    def params(self, method: str, params: bytes) -> bytes:
        """See `Dialect`."""
        _check_depth(params)
        if params in (b"", b"null", b"[]", b"{}"):
            return b"[]"
        if params[:1] == b"[":
            values = _decode_array(params)
            named = self._named(method, values)
            if named is None:
                return params
        else:
            named = _decode_object(params)
        if method in _AMOUNTS and "amount" in named:
            return self._with_amount(method, named)
        if method == "gettxout":
            return _gettxout(named)
        if method == "setminingaddress" and "address" in named:
            return _encode([named["address"]])
        if method == "setban" and params[:1] == b"[":
            return params
        return _encode(named)

    def _named(self, method: str, values: list[msgspec.Raw]) -> dict[str, msgspec.Raw] | None:
        """Return positional params by name, or None if the node accepts them by position."""
        names = _NAMES.get(method)
        if names is None or method in _TAKES_ARRAY:
            return None
        if method == "getrawtransaction" and len(values) > 1 and bytes(values[1])[:1].isdigit():
            names = ("txid", "verbosity")  # as clients of Bitcoin Core ask for the object
        named = dict(zip(names, values, strict=False))  # the node ignores params that it does not know
        return {name: value for name, value in named.items() if bytes(value) != b"null"}

    def _with_amount(self, method: str, named: dict[str, msgspec.Raw]) -> bytes:
        amount = _amount(bytes(named["amount"]))
        if amount is None:
            return _encode(named)  # the node refuses what is not a number
        array = method in _PAYS and named.keys() == {"address", "amount"}
        if not array and 0 < amount < _SMALLEST:
            raise _wrong(
                f"the node would misread an amount below {_SMALLEST} here (it would take {amount:f} for a whole coin)"
            )
        text = msgspec.Raw(_as_the_node_reads_it(amount).encode())
        return _encode([named["address"], text]) if array else _encode({**named, "amount": text})


def _amount(text: bytes) -> Decimal | None:
    """Return an amount in coins from a number or a string, or None if it is neither."""
    if text[:1] not in b'"-0123456789':
        return None
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise _wrong("the amount is not a number")
    digits = found[1].decode()
    amount = Decimal(digits) if len(digits) <= _MAX_AMOUNT_DIGITS else None
    if amount == 0:
        return Decimal(0)
    if amount is None or not -9 < amount.adjusted() < 10 or amount * _COIN != int(amount * _COIN):
        raise _wrong(
            f"an amount has 8 decimals at most, and {digits[:32]} has more or is out of range; round the result of a "
            "calculation, since 0.1 + 0.2 is 0.30000000000000004 in binary arithmetic"
        )
    return amount


def _as_the_node_reads_it(amount: Decimal) -> str:
    """Return a number that the node, which multiplies a double by 1e8 and truncates, reads as exactly this amount."""
    text = f"{amount:f}"
    if int(float(text) * 1e8) == int(amount * _COIN):
        return text
    return f"{amount + _HALF_AN_ION.copy_sign(amount):f}"


def _gettxout(named: dict[str, msgspec.Raw]) -> bytes:
    """Return the params with `n` one level deeper. The node sorts names, and does not find an `n` before `txid`."""
    n = named.pop("n", None)
    return _encode(named if n is None else {**named, "z": {"n": n}})


def _check_depth(params: bytes) -> None:
    """Raise RpcError if params are nested too deeply for the node, which would refuse the whole batch."""
    depth = deepest = 0
    in_string = escaped = False
    if params.count(b"[") + params.count(b"{") <= _DEPTH - 3:
        return
    for byte in params:
        if in_string:
            in_string, escaped = byte != 0x22 or escaped, byte == 0x5C and not escaped
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    if deepest > _DEPTH - 2:  # the request and its batch are two levels
        raise _wrong(f"params are nested {deepest} levels deep, and the node takes {_DEPTH - 2}")


def _wrong(text: str) -> RpcError:
    return RpcError(JsonRpcCode.INVALID_PARAMS, f"Invalid params: {text}")


DILITHION = _Dilithion()
