"""Methods about the block database, miners' identities and payments by x402, with the node's names, params and results.

The development node has no damage to repair and no identities of its own: a miner's identity is made from its address.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from ... import RpcTable
from ..node import DevNode
from ..primitives import Block, digest
from .chain_methods import failure

__all__ = ["register_upkeep_methods"]

_WINDOW = 360
_MIK = re.compile(r"[0-9a-fA-F]{40}")
_DILV_ONLY = "x402 facilitator not available (DilV only)"


def register_upkeep_methods(rpc: RpcTable, node: DevNode) -> None:
    """Add the methods to a table."""
    chain, banned = node.chain, set[str]()

    # Identities

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getdfmpinfo() -> dict[str, Any]:
        """Get this miner's identity and penalties"""
        with node.lock:
            mik = mik_of(node.mining_address or node.wallet.addresses[0])
            mined = [block.height for block in chain.active[-_WINDOW:] if _miner(block) == mik]
            return {
                "has_mik": True,
                "mik_identity": mik,
                "current_height": chain.height,
                "dfmp_activation_height": 0,
                "dfmp_assume_valid_height": 0,
                "dfmp_active": True,
                "dfmp_version": "devnet",
                "is_registered": bool(mined),
                "first_seen": mined[0] if mined else -1,
                "heat": len(mined),
                "last_mined": mined[-1] if mined else -1,
                "dormant": not mined,
                "maturity_penalty": 1.0,
                "heat_penalty": 1.0,
                "total_penalty": 1.0,
                "is_verified": False,
            }

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getmikdistribution() -> dict[str, Any]:
        """Count the latest blocks of each miner"""
        with node.lock:
            counts = Counter(_miner(block) for block in chain.active[1:][-_WINDOW:])
        rows = [{"mik": mik, "blocks": count} for mik, count in counts.most_common()]
        return {"window_size": _WINDOW, "unique_miners": len(rows), "distribution": rows}

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getfullmikdistribution() -> dict[str, Any]:
        """Count all blocks of each miner"""
        with node.lock:
            blocks = chain.active[1:]
            counts = Counter(_miner(block) for block in blocks)
        rows = [
            {"mik": mik, "blocks": count, "percent": round(100 * count / len(blocks), 2)}
            for mik, count in counts.most_common()
        ]
        return {
            "total_blocks": len(blocks),
            "blocks_with_mik": len(blocks),
            "blocks_without_mik": 0,
            "unique_miners": len(rows),
            "distribution": rows,
        }

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getmikattestation(mik_pubkey: str = "", dna_hash: str = "") -> None:
        """Ask a seed node for an attestation, which this is not"""
        raise failure("getmikattestation is only available on seed nodes")

    @rpc.method(permission="CONTROL_NETWORK")
    def banmik(mik: str) -> None:
        """Refuse a miner's blocks; recorded only"""
        banned.add(_check_mik(mik))

    @rpc.method(permission="CONTROL_NETWORK")
    def unbanmik(mik: str) -> None:
        """Lift such a ban"""
        banned.discard(_check_mik(mik))

    @rpc.method(permission="READ_BLOCKCHAIN")
    def listbannedmiks() -> list[str]:
        """List these bans"""
        return sorted(banned)

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getsybilrelays() -> dict[str, Any]:
        """List peers that relay blocks of many miners"""
        return {"note": "none in the development node", "peers": []}

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getcorrelatedalerts() -> dict[str, Any]:
        """List groups of miners that behave alike"""
        return {"note": "none in the development node", "height": chain.height, "groups": []}

    # The block database

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getblocktrackerinfo() -> dict[str, Any]:
        """Get the blocks that are being downloaded"""
        return {"total_in_flight": 0, "status": "idle", "tracked_heights": [], "per_peer": {}}

    @rpc.method(permission="READ_BLOCKCHAIN")
    def checkblockdb() -> dict[str, Any]:
        """Look for blocks that are missing"""
        height = chain.height
        return {
            "chain_height": height,
            "start_height": 0,
            "end_height": height,
            "missing_blocks": [],
            "missing_count": 0,
        }

    @rpc.method(permission="ADMIN_SERVER")
    def scanblockdb() -> dict[str, Any]:
        """List the stored blocks"""
        with node.lock:
            count = len(chain.active)
        return {"total_in_db": count, "scanned": count, "blocks": [], "orphans": 0, "hash_mismatches": 0}

    @rpc.method(permission="ADMIN_SERVER")
    def repairblocks(dry_run: bool = True) -> dict[str, Any]:
        """Repair the stored blocks"""
        count = chain.height + 1
        return {
            "dry_run": dry_run,
            "total_blocks": count,
            "already_correct": count,
            "repaired": 0,
            "would_repair": 0,
            "errors": 0,
            "repairs": [],
        }

    @rpc.method(permission="CONTROL_NETWORK")
    def requestblocks(hashes: list[str] | None = None, heights: list[int] | None = None) -> dict[str, Any]:
        """Ask peers for blocks"""
        wanted = [*(hashes or []), *map(str, heights or [])]
        if not wanted:
            raise failure('No blocks to request. Use {"hashes": [...]} or {"heights": [...]}')
        return {"blocks_requested": len(wanted), "peers_contacted": len(node.network.peers), "hashes": hashes or []}

    @rpc.method(permission="ADMIN_SERVER")
    def invalidateblock(blockhash: str | None = None, height: int | None = None) -> dict[str, Any]:
        """Take a block, and all that build on it, out of the chain"""
        with node.lock:
            if blockhash is None and height is not None and 0 <= height <= chain.height:
                blockhash = chain.active[height].hash
            block = None if blockhash is None else chain.block(blockhash)
            if block is None:
                raise failure(f"Block not found in chainstate: {blockhash}")
            if block.height == 0:
                raise failure("Cannot invalidate genesis block")
            steps = node.apply(chain.invalidate(block))
            gone = sum(not step.connected for step in steps)
            return {"disconnected": gone, "new_height": chain.height, "new_tip": chain.tip.hash}

    @rpc.method(permission="ADMIN_SERVER")
    def reconsiderblock(blockhash: str) -> dict[str, Any]:
        """Undo `invalidateblock`"""
        with node.lock:
            block = chain.block(blockhash)
            if block is None:
                raise failure(f"Block not found in chainstate: {blockhash}")
            node.apply(chain.reconsider(block))
            return {"status": "reconsidered", "new_height": chain.height, "new_tip": chain.tip.hash}

    @rpc.method(permission="ADMIN_SERVER")
    def forcerebuild(reason: str) -> dict[str, str]:
        """Have the chain built again at the next start; recorded only"""
        if not reason or len(reason) > 256:
            raise failure("Missing required parameter: reason (string)")
        return {"status": "rebuild scheduled", "marker_path": "memory", "reason": reason}

    @rpc.method(permission="ADMIN_SERVER")
    def savemempool() -> dict[str, str]:
        """Save the mempool, which the development node does not"""
        raise failure("savemempool failed: the development node keeps everything in memory")

    # x402

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getx402info() -> None:
        """Get the terms for payments by x402"""
        raise failure(_DILV_ONLY)

    @rpc.method(permission="READ_BLOCKCHAIN")
    def verifyx402payment(payment: Any = None) -> None:
        """Verify a payment by x402"""
        raise failure(_DILV_ONLY)

    @rpc.method(permission="WRITE_WALLET")
    def settlex402payment(payment: Any = None) -> None:
        """Settle a payment by x402"""
        raise failure(_DILV_ONLY)


def mik_of(address: str) -> str:
    """Return the identity of a miner: 20 bytes as hex."""
    return digest(b"mik " + address.encode())[:20].hex()


def _miner(block: Block) -> str:
    return mik_of(block.transactions[0].outputs[0].address or "")


def _check_mik(mik: str) -> str:
    if not _MIK.fullmatch(mik):
        raise failure(f"MIK must be 40 hex characters, got {len(mik)}")
    return mik.lower()
