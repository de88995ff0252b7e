"""What the gateway asks the node to see how it stands, and what the answers mean, in both dialects. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from .. import RpcError
from .chain_tracker import ChainBlock
from .dialects.base import Dialect
from .node_client import Call
from .node_view import MempoolTransaction
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["NodeInfo", "NodeQueries"]

_GENESIS_PARENT = "0" * 64
_FEW = 10
"""Blocks that are asked for with their transactions; of more, the headers do."""
_NOT_FOUND, _ANY_FAILURE = -5, -32603
"""What a node of Core's family says of an unknown block; what Dilithion says of whatever has failed."""
_FAR = 10
"""Blocks behind the best peer from which on a Dilithion node counts as syncing."""


class NodeInfo(msgspec.Struct):
    """How the node stands: of `getblockchaininfo`.

    Attributes:
        blocks, bestblockhash: its tip.
        headers: how far it knows the chain; None where it does not say.
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


class _WireFees(msgspec.Struct):
    base: Decimal


class _WireEntry(msgspec.Struct):
    vsize: int = 0
    size: int = 0
    fee: Decimal | None = None
    fees: _WireFees | None = None


class _WireOutput(msgspec.Struct):
    address: str = ""


class _WireTransaction(msgspec.Struct):
    size: int
    vout: list[_WireOutput] = []


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
_entry, _transaction, _peers = _decoder(_WireEntry), _decoder(_WireTransaction), _decoder(list[_WirePeer])


class NodeQueries:
    """Questions and answers.

    Args:
        dialect: the node's.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._is_core = dialect.name == "core"

    # One look at everything

    def all(self) -> list[Call]:
        """The calls of one look, for one request."""
        # The mempool first: a block that comes in between is then known before its transactions are missed.
        calls = [("getrawmempool", b""), ("getblockchaininfo", b""), ("getpeerinfo", b"")]
        return calls if self._is_core else [*calls, ("getmininginfo", b"")]

    def info(self, answers: Sequence[Any]) -> NodeInfo:
        """How the node stands; raises RpcError where it does not say."""
        info: NodeInfo = _info(answers[1])
        if not self._is_core:
            heights = sorted(peer.startingheight for peer in _peers(answers[2]))
            best = heights[len(heights) // 2] if heights else 0  # no single peer's word
            if best > info.blocks + _FAR:
                info.initialblockdownload = True
                info.headers = best
                info.verificationprogress = info.blocks / best
        return info

    def txids(self, answers: Sequence[Any]) -> list[str]:
        """The mempool."""
        found: list[str] = _txids(answers[0])
        return found

    def peers(self, answers: Sequence[Any]) -> Any:
        """The peers, as the node has them."""
        return _any(answers[2])

    def mining(self, answers: Sequence[Any]) -> Any:
        """What the node says of its mining; empty where it is not asked."""
        return _any(answers[3]) if len(answers) > 3 else {}

    # Blocks

    def block_hash(self, height: int) -> Call:
        """Ask for the hash of a block."""
        return "getblockhash", b"[%d]" % height

    def read_hash(self, answer: Any) -> str:
        """The hash."""
        text: str = _hash(answer) if self._is_core else _hash_object(answer)["blockhash"]
        return text

    def block(self, hash: str, count: int = 1) -> Call:
        """Ask for a block, of which one of so many are asked for at a time."""
        quoted = b'"%b"' % hash.encode()
        if self._is_core and count > _FEW:
            return "getblockheader", b"[%b]" % quoted
        return "getblock", b"[%b,1]" % quoted

    def is_unknown(self, error: RpcError) -> bool:
        """Whether an error says that the node does not know what it was asked for."""
        return error.code == _NOT_FOUND or (error.code == _ANY_FAILURE and "not found" in error.message.lower())

    def read_block(self, answer: Any) -> ChainBlock:
        """The block."""
        found: _WireBlock = _block(answer)
        count = found.nTx or found.tx_count or len(found.tx)
        return ChainBlock(found.height, found.hash, found.previousblockhash, found.time, count, tuple(found.tx))

    # Transactions

    def transaction(self, txid: str) -> Call:
        """Ask for a transaction of the mempool."""
        quoted = b'"%b"' % txid.encode()
        return ("getmempoolentry", b"[%b]" % quoted) if self._is_core else ("getrawtransaction", b"[%b,true]" % quoted)

    def read_transaction(self, answer: Any) -> MempoolTransaction | None:
        """The transaction; None where it has left the mempool."""
        if isinstance(answer, RpcError) and not isinstance(answer, UpstreamError):
            return None
        if self._is_core:
            entry: _WireEntry = _entry(answer)
            return MempoolTransaction(entry.vsize or entry.size, entry.fees.base if entry.fees else entry.fee)
        found: _WireTransaction = _transaction(answer)
        addresses = tuple(dict.fromkeys(output.address for output in found.vout if output.address))
        return MempoolTransaction(found.size, None, addresses)
