"""Methods about blocks, transactions and the mempool, with the node's names, params and results."""

from __future__ import annotations

from typing import Any

from ... import JsonRpcCode, RpcError, RpcTable
from ..chain import Chain
from ..mempool import MINIMUM_FEE_RATE
from ..node import DevNode
from ..primitives import Block, Outpoint, Transaction, coins, merkle_root, target_of_bits

__all__ = ["failure", "register_chain_methods", "transaction_fields"]

MOST_WAIT_MS = 300_000


def failure(text: str) -> RpcError:
    """The node's error for whatever a handler can't do: -32603 and a sentence."""
    return RpcError(JsonRpcCode.INTERNAL_ERROR, text)


def register_chain_methods(rpc: RpcTable, node: DevNode) -> None:
    """Add the methods to a table."""
    chain, mempool = node.chain, node.mempool

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getblockcount() -> int:
        """Get the height of the best chain"""
        return chain.height

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getbestblockhash() -> str:
        """Get the hash of the best block"""
        return chain.tip.hash

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getblockhash(height: int) -> dict[str, str]:
        """Get block hash by height"""
        with node.lock:
            if not 0 <= height <= chain.height:
                raise failure(f"No block found at height {height}")
            return {"blockhash": chain.active[height].hash}

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getblock(hash: str, verbosity: int = 1) -> dict[str, Any]:
        """Get block by hash"""
        with node.lock:
            block = chain.block(hash)
            if block is None:
                raise failure("Block not found")
            return _block_fields(chain, block, verbosity)

    @rpc.method(permission="READ_BLOCKCHAIN", position_of="blocks")
    def getblockchaininfo() -> dict[str, Any]:
        """Get blockchain information"""
        with node.lock:
            times = sorted(block.header.time for block in chain.active[-11:])
            return {
                "chain": "devnet",
                "blocks": chain.height,
                "bestblockhash": chain.tip.hash,
                "difficulty": _difficulty(chain.tip),
                "mediantime": times[len(times) // 2],
                "chainwork": f"{chain.total_work:064x}",
            }

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getchaintips() -> list[dict[str, Any]]:
        """Get the ends of all branches"""
        with node.lock:
            return [
                {
                    "height": block.height,
                    "hash": block.hash,
                    "branchlen": length,
                    "status": "valid-fork" if length else "active",
                }
                for block, length in chain.tips()
            ]

    @rpc.method(permission="READ_BLOCKCHAIN")
    def gettxout(txid: str, n: int | None = None, z: dict[str, int] | None = None) -> dict[str, Any] | None:
        """Get an unspent transaction output"""
        # The node finds `n` only behind `txid`, for which clients that know that nest it.
        n = (z or {}).get("n") if n is None else n
        if n is None:
            raise failure("Missing n parameter")
        with node.lock:
            coin = chain.coins.get(Outpoint(txid, n))
            if coin is None:
                return None
            return {
                "bestblock": chain.tip.hash,
                "confirmations": chain.height - coin.height + 1,
                "value": coins(coin.output.value),
                "scriptPubKey": {"hex": coin.output.script.hex()},
                "coinbase": coin.coinbase,
            }

    @rpc.method(permission="READ_BLOCKCHAIN")
    def checkchain() -> dict[str, Any]:
        """Check the chain against its checkpoints"""
        return {"your_height": chain.height, "checkpoints": [], "checkpoints_verified": 0, "chain_valid": True}

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getindexinfo() -> dict[str, Any]:
        """Get the state of the indexes"""
        height = chain.height
        return {
            "txindex": {"synced": True, "best_block_height": height},
            "coinstatsindex": {"synced": True, "best_block_height": height, "corrupted": False},
        }

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getholdercount() -> dict[str, Any]:
        """Count the addresses that have coins"""
        with node.lock:
            held = _balances(chain)
            return {"holders": len(held), "utxos": len(chain.coins), "total_amount": coins(sum(held.values()))}

    @rpc.method(permission="READ_BLOCKCHAIN")
    def gettopholders(count: int = 10, prefix: str = "") -> dict[str, Any]:
        """List the richest addresses"""
        with node.lock:
            held = _balances(chain)
            ranked = sorted(held.items(), key=lambda item: (-item[1], item[0]))
            top = [
                {"address": address, "balance": coins(ions), "rank": rank}
                for rank, (address, ions) in enumerate(ranked, 1)
                if address.startswith(prefix)
            ]
            return {"holders": len(held), "utxos": len(chain.coins), "top": top[: max(0, count)]}

    # Transactions

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getrawtransaction(txid: str, verbose: bool | int = False, verbosity: int = 0) -> Any:
        """Get a transaction by its id, as hex or with all fields"""
        with node.lock:
            found = chain.find_transaction(txid)
            waiting = mempool.entries.get(txid)
            if found is None and waiting is None:
                raise failure("Transaction not found in mempool or blockchain")
            tx = found[0] if found is not None else waiting.tx  # type: ignore[union-attr]
            if not verbose and not verbosity:
                return tx.raw.hex()
            fields = {"txid": tx.txid, "version": tx.version, "size": tx.size, **transaction_fields(tx)}
            fields["hex"] = tx.raw.hex()
            if found is None:
                return {**fields, "confirmations": 0}
            return {**fields, **_place(chain, found[1])}

    @rpc.method(permission="READ_BLOCKCHAIN")
    def decoderawtransaction(hex: str) -> dict[str, Any]:
        """Show what a raw transaction says"""
        tx = _parse(hex)
        return {
            "txid": tx.txid,
            "version": tx.version,
            "locktime": tx.locktime,
            "vin_count": len(tx.inputs),
            "vout_count": len(tx.outputs),
        }

    @rpc.method(permission="READ_BLOCKCHAIN")
    def testmempoolaccept(rawtxs: list[str], maxfeerate: float | None = None) -> list[dict[str, Any]]:
        """Run mempool admission checks against raw txs without broadcasting"""
        if len(rawtxs) > 25:
            raise failure("At most 25 transactions can be tested at once")
        return [_test(node, raw) for raw in rawtxs]

    @rpc.method(permission="WRITE_MEMPOOL")
    def sendrawtransaction(hex: str) -> str:
        """Broadcast a raw transaction to the network"""
        try:
            return node.submit(_parse(hex)).tx.txid
        except ValueError as error:
            raise failure(f"Failed to add to mempool: {error}") from None

    @rpc.method(permission="READ_BLOCKCHAIN")
    def gettxoutproof(txids: list[str], blockhash: str | None = None) -> str:
        """Prove that transactions are in a block"""
        with node.lock:
            found = chain.find_transaction(txids[0]) if txids else None
            block = chain.block(blockhash) if blockhash is not None else found and found[1]
            if block is None:
                raise failure("Transaction not found in blockchain")
            inside = [tx.txid for tx in block.transactions]
            if not set(txids) <= set(inside):
                raise failure("Not all transactions found in the block")
            # All ids of the block and the positions asked for: longer than a Merkle branch, as easy to check.
            body = [bytes.fromhex(txid)[::-1] for txid in inside]
            chosen = bytes(int(txid in txids) for txid in inside)
            raw = bytes.fromhex(block.hash)[::-1] + len(inside).to_bytes(4, "little") + b"".join(body) + chosen
            return raw.hex()

    @rpc.method(permission="READ_BLOCKCHAIN")
    def verifytxoutproof(proof: str) -> dict[str, Any]:
        """Check such a proof"""
        try:
            raw = bytes.fromhex(proof)
        except ValueError:
            raise failure("Proof is not hex") from None
        count = int.from_bytes(raw[32:36], "little")
        if len(raw) < 36 or len(raw) != 36 + 33 * count or not count:
            raise failure("Proof is malformed")
        txids = [raw[36 + 32 * at : 68 + 32 * at][::-1].hex() for at in range(count)]
        with node.lock:
            block = chain.block(raw[:32][::-1].hex())
        if block is None or block.header.merkle != merkle_root(txids):
            raise failure("Proof does not match any block")
        chosen = [txid for txid, flag in zip(txids, raw[36 + 32 * count :], strict=True) if flag]
        return {"merkleroot": block.header.merkle, "blockhash": block.hash, "txids": chosen}

    # Mempool

    @rpc.method(permission="READ_MEMPOOL", position_of="mempool")
    def getrawmempool() -> list[str]:
        """List the transactions that wait for a block"""
        with node.lock:
            return list(mempool.entries)

    @rpc.method(permission="READ_MEMPOOL")
    def getmempoolinfo() -> dict[str, Any]:
        """Get mempool statistics"""
        with node.lock:
            entries = list(mempool.entries.values())
        rates = [entry.fee / entry.tx.size for entry in entries]
        size = sum(entry.tx.size for entry in entries)
        return {
            "size": len(entries),
            "bytes": size,
            "usage": size + 256 * len(entries),
            "min_fee_rate": min(rates, default=0),
            "max_fee_rate": max(rates, default=0),
        }

    # Waiting. These block, and say so: their calls run in the pool.

    def position() -> dict[str, Any]:
        with node.lock:
            return {"hash": chain.tip.hash, "height": chain.height}

    @rpc.method(permission="READ_BLOCKCHAIN", blocking=True)
    def waitfornewblock(timeout_ms: int | None = None, timeout: int = 30_000) -> dict[str, Any]:
        """Wait for a block; answers with the best one, also when the time is over"""
        before = chain.tip.hash
        node.wait_until(lambda: chain.tip.hash != before, _seconds(timeout_ms, timeout))
        return position()

    @rpc.method(permission="READ_BLOCKCHAIN", blocking=True)
    def waitforblock(
        hash: str | None = None, blockhash: str | None = None, timeout_ms: int | None = None, timeout: int = 30_000
    ) -> dict[str, Any]:
        """Wait for a certain block to be the best one"""
        wanted = hash or blockhash
        if wanted is None:
            raise failure("Missing hash parameter")
        node.wait_until(lambda: chain.tip.hash == wanted, _seconds(timeout_ms, timeout))
        return position()

    @rpc.method(permission="READ_BLOCKCHAIN", blocking=True)
    def waitforblockheight(height: int, timeout_ms: int | None = None, timeout: int = 30_000) -> dict[str, Any]:
        """Wait for the chain to have a height"""
        node.wait_until(lambda: chain.height >= height, _seconds(timeout_ms, timeout))
        return position()


def _seconds(timeout_ms: int | None, timeout: int) -> float:
    return min(max(0, timeout if timeout_ms is None else timeout_ms), MOST_WAIT_MS) / 1000


def _difficulty(block: Block) -> float:
    return round((0xFFFF << 208) / target_of_bits(block.header.bits), 8)


def _balances(chain: Chain) -> dict[str, int]:
    held: dict[str, int] = {}
    for coin in chain.coins.values():
        address = coin.output.address
        if address is not None:
            held[address] = held.get(address, 0) + coin.output.value
    return held


def _place(chain: Chain, block: Block) -> dict[str, Any]:
    return {
        "blockhash": block.hash,
        "blockheight": block.height,
        "confirmations": chain.height - block.height + 1,
    }


def _block_fields(chain: Chain, block: Block, verbosity: int) -> dict[str, Any]:
    active = chain.is_active(block)
    fields: dict[str, Any] = {
        "hash": block.hash,
        "height": block.height,
        "version": block.header.version,
        "previousblockhash": block.header.previous,
    }
    if active and block.height < chain.height:
        fields["nextblockhash"] = chain.active[block.height + 1].hash
    fields |= {
        "merkleroot": block.header.merkle,
        "time": block.header.time,
        "bits": f"0x{block.header.bits:08x}",
        "nonce": block.header.nonce,
        "size": block.size,
        "tx_count": len(block.transactions),
        "confirmations": chain.height - block.height + 1 if active else -1,
        "miner": block.transactions[0].outputs[0].address or "",
    }
    if verbosity == 1:
        fields["tx"] = [tx.txid for tx in block.transactions]
    elif verbosity >= 2:
        fields["tx"] = [{"txid": tx.txid, "version": tx.version, **transaction_fields(tx)} for tx in block.transactions]
    return fields


def transaction_fields(tx: Transaction) -> dict[str, Any]:
    """Inputs, outputs (in ions) and lock time, as the node shows them."""
    inputs: list[dict[str, Any]] = [
        {"coinbase": True} if tx.is_coinbase else {"txid": item.source.txid, "vout": item.source.index}
        for item in tx.inputs
    ]
    outputs = []
    for index, output in enumerate(tx.outputs):
        shown: dict[str, Any] = {"value": output.value, "n": index}
        if output.address is not None:
            shown["address"] = output.address
        outputs.append({**shown, "scriptPubKey": output.script.hex()})
    return {"vin": inputs, "vout": outputs, "locktime": tx.locktime}


def _parse(hex: str) -> Transaction:
    try:
        return Transaction.parse(bytes.fromhex(hex))
    except ValueError as error:
        raise failure(f"Failed to deserialize transaction: {error}") from None


def _test(node: DevNode, raw: str) -> dict[str, Any]:
    try:
        tx = _parse(raw)
    except RpcError as error:
        return {"allowed": False, "reject-reason": error.message, "txid": "", "wtxid": ""}
    named = {"txid": tx.txid, "wtxid": tx.txid}
    try:
        with node.lock:
            fee = node.mempool.check(tx)
    except ValueError as error:
        return {"allowed": False, "reject-reason": f"Failed to add to mempool: {error}", **named}
    assert fee >= MINIMUM_FEE_RATE
    return {"allowed": True, "vsize": tx.size, "fees": {"base": coins(fee)}, **named}
