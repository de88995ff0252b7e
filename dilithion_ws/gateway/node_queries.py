"""The calls of a poll, and the meaning of their answers, in both dialects. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from .. import RpcError
from ..util.json import encode_json
from .chain_tracker import ChainBlock
from .dialects.base import Dialect
from .node_client import Call
from .node_view import MempoolTransaction
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["NodeInfo", "NodeQueries"]

_GENESIS_PARENT = "0" * 64
_MAX_BLOCKS_WITH_DETAILS = 10
"""Blocks that are asked for with their transactions; of more, the headers do."""
_NOT_FOUND, _NOT_A_HASH, _ANY_FAILURE = -5, -8, -32603
"""Error codes for an unknown block and a malformed hash (Bitcoin Core), and for any failure (Dilithion)."""
_MIN_BLOCKS_BEHIND = 10
"""Blocks behind the best peer from which on a Dilithion node counts as syncing."""


class NodeInfo(msgspec.Struct):
    """The answer to `getblockchaininfo`.

    Attributes:
        blocks, bestblockhash: its tip.
        headers: the height of the chain as far as it knows it, or None if it does not say.
        initialblockdownload: whether it is syncing.
        verificationprogress: how far it is, 0 to 1.
    """

    blocks: int
    bestblockhash: str
    headers: int | None = None
    initialblockdownload: bool = False
    verificationprogress: float | None = None


class _WireBlock(msgspec.Struct):
    hash: str
    height: int
    time: int
    previousblockhash: str = _GENESIS_PARENT
    nTx: int = 0
    tx_count: int = 0
    tx: list[str] = []
    miner: str = ""


class _WireFees(msgspec.Struct):
    base: Decimal


class _WireEntry(msgspec.Struct):
    vsize: int = 0
    size: int = 0
    fee: Decimal | None = None
    fees: _WireFees | None = None


class _WireScript(msgspec.Struct):
    address: str = ""
    addresses: list[str] = []


class _WireOutput(msgspec.Struct):
    address: str = ""
    scriptPubKey: _WireScript | str = ""


class _WireInput(msgspec.Struct):
    txid: str = ""
    vout: int = 0


class _WireTransaction(msgspec.Struct):
    size: int = 0
    txid: str = ""
    vin: list[_WireInput] = []
    vout: list[_WireOutput] = []


class _WireDetailedBlock(msgspec.Struct):
    tx: list[_WireTransaction] = []


class _WirePeer(msgspec.Struct):
    startingheight: int = 0


def _decoder(kind: Any) -> Any:
    decoder = msgspec.json.Decoder(kind)

    def decode(raw: Any) -> Any:
        if isinstance(raw, RpcError):
            raise raw
        try:
            return decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamError(UpstreamErrorKind.UNREADABLE, str(error)) from None

    return decode


_info, _txids, _any = _decoder(NodeInfo), _decoder(list[str]), _decoder(Any)
_block, _hash, _hash_object = _decoder(_WireBlock), _decoder(str), _decoder(dict[str, str])
_detailed_block = _decoder(_WireDetailedBlock)
_entry, _transaction, _peers = _decoder(_WireEntry), _decoder(_WireTransaction), _decoder(list[_WirePeer])


class PollAnswers(NamedTuple):
    """The answers to the calls of one poll, see `NodeQueries.all`."""

    mempool: Any
    chain: Any
    peers: Any
    mining: Any = msgspec.Raw(b"{}")
    mining_address: Any = msgspec.Raw(b"{}")


class NodeQueries:
    """Makes calls and reads their answers.

    Args:
        dialect: the node's.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._is_core = dialect.name == "core"

    # One poll

    def all(self) -> list[Call]:
        """Return the calls of one poll, which are sent in one request."""
        # The mempool first: a block that comes in between is then known before its transactions are missed.
        calls = [("getrawmempool", b""), ("getblockchaininfo", b""), ("getpeerinfo", b"")]
        return calls if self._is_core else [*calls, ("getmininginfo", b""), ("getminingaddress", b"")]

    def info(self, answers: PollAnswers) -> NodeInfo:
        """Return the state of the node. Raise RpcError if the answer is an error."""
        info: NodeInfo = _info(answers.chain)
        if not self._is_core:
            heights = sorted(peer.startingheight for peer in _peers(answers.peers))
            best = heights[len(heights) // 2] if heights else 0  # no single peer's word
            if best > info.blocks + _MIN_BLOCKS_BEHIND:
                info.initialblockdownload = True
                info.headers = best
                info.verificationprogress = info.blocks / best
        return info

    def txids(self, answers: PollAnswers) -> list[str]:
        """Return the ids of the transactions in the mempool."""
        return self.read_mempool(answers.mempool)

    def peers(self, answers: PollAnswers) -> Any:
        """Return the peers."""
        return _any(answers.peers)

    def mining(self, answers: PollAnswers) -> Any:
        """Return what the node reports about mining, or an empty answer if it was not asked."""
        return _any(answers.mining)

    def mining_address(self, answers: PollAnswers) -> str:
        """Return the address that blocks of this node pay to, or nothing if that is not known."""
        answer = answers.mining_address
        found = {} if isinstance(answer, RpcError) else _any(answer)
        return str(found.get("address") or "") if isinstance(found, dict) else ""

    # Blocks

    def block_hash(self, height: int) -> Call:
        """Ask for the hash of a block."""
        return "getblockhash", b"[%d]" % height

    def read_hash(self, answer: Any) -> str:
        """Return the hash of a block."""
        text: str = _hash(answer) if self._is_core else _hash_object(answer)["blockhash"]
        return text

    def block(self, hash: str, count: int = 1) -> Call:
        """Ask for a block. `count` is the number of blocks in the same request."""
        quoted = encode_json(hash)
        if self._is_core and count > _MAX_BLOCKS_WITH_DETAILS:
            return "getblockheader", b"[%b]" % quoted
        return "getblock", b"[%b,1]" % quoted

    def is_unknown(self, error: RpcError) -> bool:
        """Return whether an error means that the node does not know the block or transaction."""
        text = error.message.lower()
        return error.code in (_NOT_FOUND, _NOT_A_HASH) or (
            error.code == _ANY_FAILURE and ("not found" in text or "invalid" in text)
        )

    def read_block(self, answer: Any) -> ChainBlock:
        """Return a block."""
        found: _WireBlock = _block(answer)
        count = found.nTx or found.tx_count or len(found.tx)
        return ChainBlock(
            found.height, found.hash, found.previousblockhash, found.time, count, tuple(found.tx), found.miner
        )

    # Transactions

    def transaction(self, txid: str, with_addresses: bool) -> list[Call]:
        """Ask for a transaction of the mempool. Core has its size and its addresses in two places."""
        quoted = encode_json(txid)
        if not self._is_core:
            return [("getrawtransaction", b"[%b,true]" % quoted)]
        calls = [("getmempoolentry", b"[%b]" % quoted)]
        return [*calls, ("getrawtransaction", b"[%b,true]" % quoted)] if with_addresses else calls

    def read_transaction(self, answers: Sequence[Any]) -> MempoolTransaction | None:
        """Return a transaction, or None if it has left the mempool."""
        first = answers[0]
        if isinstance(first, RpcError) and not isinstance(first, UpstreamError):
            return None
        if not self._is_core:
            found: _WireTransaction = _transaction(first)
            return MempoolTransaction(found.size, None, _addresses(found), _spends(found))
        entry: _WireEntry = _entry(first)
        fee = entry.fees.base if entry.fees else entry.fee
        size = entry.vsize or entry.size
        if len(answers) == 1 or isinstance(answers[1], RpcError):
            return MempoolTransaction(size, fee)
        found = _transaction(answers[1])
        return MempoolTransaction(size, fee, _addresses(found), _spends(found))

    def detailed_block(self, hash: str) -> Call:
        """Ask for a block with all that its transactions have."""
        return "getblock", b"[%b,2]" % encode_json(hash)

    def read_detailed_block(self, answer: Any) -> list[dict[str, Any]]:
        """Return the transactions of a block, with the addresses that they pay to."""
        return [{"txid": one.txid, "addresses": _addresses(one)} for one in _detailed_block(answer).tx]

    def mempool(self) -> Call:
        """Ask for the ids of the transactions in the mempool."""
        return "getrawmempool", b""

    def read_mempool(self, answer: Any) -> list[str]:
        """Return the ids of the transactions in the mempool."""
        found: list[str] = _txids(answer)
        return found

    def mined(self, block: ChainBlock, txids: Sequence[str]) -> list[Call]:
        """Ask for transactions of a block that were never in the mempool here."""
        if not self._is_core:
            return [self.detailed_block(block.hash)]
        return [("getrawtransaction", encode_json([txid, True, block.hash])) for txid in txids]

    def read_mined(self, txids: Sequence[str], answers: Sequence[Any]) -> dict[str, MempoolTransaction]:
        """Return what the answers have of these transactions."""
        if self._is_core:
            found = {txid: _transaction(one) for txid, one in zip(txids, answers, strict=True) if _is_result(one)}
        elif _is_result(answers[0]):
            found = {one.txid: one for one in _detailed_block(answers[0]).tx}
        else:
            found = {}
        wanted = set(txids)
        return {
            txid: MempoolTransaction(one.size, None, _addresses(one), _spends(one))
            for txid, one in found.items()
            if txid in wanted
        }


def _is_result(answer: Any) -> bool:
    if isinstance(answer, UpstreamError):
        raise answer
    return not isinstance(answer, RpcError)


def _addresses(transaction: _WireTransaction) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for output in transaction.vout:
        script = output.scriptPubKey
        given = [output.address]
        if isinstance(script, _WireScript):
            given += [script.address, *script.addresses]
        found.update(dict.fromkeys(address for address in given if address))
    return tuple(found)


def _spends(transaction: _WireTransaction) -> tuple[str, ...]:
    return tuple(f"{one.txid}:{one.vout}" for one in transaction.vin if one.txid)
