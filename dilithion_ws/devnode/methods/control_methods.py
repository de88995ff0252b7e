"""Methods about mining, peers and the node itself, with the node's names, params and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ... import RpcTable, __version__
from ..node import DevNode
from ..primitives import decode_address
from .chain_methods import failure

__all__ = ["register_control_methods"]

MOST_BLOCKS = 1000


def register_control_methods(rpc: RpcTable, node: DevNode, stop: Callable[[], object]) -> None:
    """Add the methods to a table. `stop` is called by the method of that name."""
    chain, network, lock = node.chain, node.network, node.lock

    def connect(address: str) -> None:
        has_port = address.rpartition(":")[2].isdecimal() and ":" in address
        network.connect(node.now, chain.height, address if has_port else f"{address}:8444")

    @rpc.method(permission="READ_MINING", position_of="mining")
    def getmininginfo() -> dict[str, Any]:
        """Get mining statistics"""
        return {
            "mining": node.mining,
            "hashrate": node.hash_rate,
            "threads": node.threads,
            "current_height": chain.height,
            "blocks_found": node.blocks_found,
            "blocks_accepted": node.blocks_found,
        }

    @rpc.method(permission="CONTROL_MINING")
    def startmining() -> bool:
        """Let blocks come by themselves"""
        node.set_mining(True)
        return True

    @rpc.method(permission="CONTROL_MINING")
    def stopmining() -> bool:
        """Let no more blocks come by themselves"""
        node.set_mining(False)
        return True

    @rpc.method(permission="CONTROL_MINING")
    def setminingthreads(threads: int) -> dict[str, int]:
        """Set the number of mining threads"""
        if not 1 <= threads <= 64:
            raise failure("Invalid thread count (1 to 64)")
        node.threads = threads
        return {"threads": threads}

    @rpc.method(permission="CONTROL_MINING", blocking=True)
    def generatetoaddress(nblocks: int, address: str) -> list[str]:
        """Mine blocks for an address, now"""
        if not 1 <= nblocks <= MOST_BLOCKS:
            raise failure(f"Invalid nblocks (1 to {MOST_BLOCKS})")
        if decode_address(address) is None:
            raise failure(f"Invalid Dilithion address: {address}")
        return node.generate(nblocks, address)

    # Network

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getnetworkinfo() -> dict[str, Any]:
        """Get the version of the node"""
        return {"version": __version__, "subversion": f"/Dilithion:{__version__}-dev/", "protocolversion": 1}

    @rpc.method(permission="READ_BLOCKCHAIN")
    def getconnectioncount() -> int:
        """Count the peers"""
        return len(network.peers)

    @rpc.method(permission="READ_BLOCKCHAIN", position_of="peers")
    def getpeerinfo() -> list[dict[str, Any]]:
        """List the peers"""
        with node.lock:
            return [
                {
                    "id": peer.id,
                    "addr": f"{peer.address} (services=0x0000000000000001, time=0)",
                    "inbound": peer.inbound,
                    "bytes_sent": peer.bytes_sent,
                    "bytes_recv": peer.bytes_received,
                    "conntime": peer.connected_at,
                    "lastsend": peer.last_send,
                    "lastrecv": peer.last_receive,
                    "version": 70011,
                    "subver": f"/Dilithion:{__version__}-dev/",
                    "startingheight": peer.starting_height,
                    "relaytxes": True,
                    "misbehavior": 0,
                }
                for peer in network.peers.values()
            ]

    @rpc.method(permission="CONTROL_NETWORK")
    def addnode(node: str, command: str = "add") -> None:
        """Connect to a peer, or forget one (add, onetry, remove)"""
        if command not in ("add", "onetry", "remove"):
            raise failure("Invalid command (add, onetry or remove)")
        with lock:
            if command == "remove":
                network.disconnect(node)
            else:
                connect(node)

    @rpc.method(permission="CONTROL_NETWORK")
    def disconnectnode(address: str | None = None, node: str | None = None) -> dict[str, Any]:
        """Disconnect a peer"""
        wanted = address or node
        if wanted is None:
            raise failure("Missing address parameter")
        with lock:
            return {"address": wanted, "disconnected": len(network.disconnect(wanted))}

    @rpc.method(permission="CONTROL_NETWORK")
    def setban(ip: str, command: str = "add", bantime: int = 86_400) -> None:
        """Ban an address, or lift its ban (add, remove)"""
        with lock:
            if command == "add":
                network.ban(ip, node.now, max(1, bantime))
            elif command == "remove":
                network.bans.pop(ip, None)
            else:
                raise failure("Invalid command (add or remove)")

    @rpc.method(permission="READ_BLOCKCHAIN")
    def listbanned() -> list[dict[str, Any]]:
        """List the bans"""
        with lock:
            return [
                {
                    "address": ban.address,
                    "banned_until": ban.until,
                    "ban_created": ban.created,
                    "ban_reason": 2,
                    "ban_reason_str": "manually_banned",
                    "misbehavior_type": "none",
                    "misbehavior_score": 0,
                }
                for ban in network.bans.values()
            ]

    @rpc.method(permission="CONTROL_NETWORK")
    def clearbanned() -> None:
        """Lift all bans"""
        with lock:
            network.bans.clear()

    # Control

    @rpc.method(name="help", permission="READ_BLOCKCHAIN")
    def help_() -> dict[str, list[str]]:
        """List the methods"""
        return {"commands": [f"{name} - {method.summary}" for name, method in sorted(rpc.methods().items())]}

    @rpc.method(name="stop", permission="ADMIN_SERVER")
    def stop_(confirm: bool = False) -> str:
        """Stop the server"""
        if not confirm:
            raise failure(
                'Server shutdown requires explicit confirmation. Call with {"confirm": true} to confirm shutdown. '
                "This prevents accidental or unauthorized server termination."
            )
        stop()
        return "Dilithion server stopping (confirmed)"
