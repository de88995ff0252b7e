"""Simulated peers and bans, without a network."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .block_event import Publish, discard

__all__ = ["Ban", "Network", "Peer"]

MOST_PEERS = 8


@dataclass
class Peer:
    """A node at the other end of a connection."""

    id: int
    host: str
    port: int
    inbound: bool
    connected_at: int
    starting_height: int
    bytes_sent: int = 0
    bytes_received: int = 0
    last_send: int = 0
    last_receive: int = 0

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Ban:
    """An address that may not connect."""

    address: str
    created: int
    until: int


class Network:
    """The peers. Not thread-safe: the node holds its lock. Hosts are of the ranges reserved for documentation."""

    def __init__(self, rng: random.Random, publish: Publish = discard) -> None:
        self._rng = rng
        self._publish = publish
        self._next_id = 1
        self.peers: dict[int, Peer] = {}
        self.bans: dict[str, Ban] = {}

    def connect(self, now: int, height: int, address: str | None = None) -> Peer | None:
        """Add a peer. Return None if its address is banned."""
        rng = self._rng
        if address is None:
            host, port = f"203.0.113.{rng.randrange(1, 255)}", 8444
            inbound = rng.random() < 0.5
            port = rng.randrange(32768, 60999) if inbound else port
        else:
            host, _, text = address.partition(":")
            port, inbound = int(text or 8444), False
        if host in self.bans:
            return None
        peer = Peer(self._next_id, host, port, inbound, now, height)
        self._next_id += 1
        self.peers[peer.id] = peer
        self._tell(peer, "connected")
        return peer

    def disconnect(self, wanted: str) -> list[Peer]:
        """Remove the peers of an address, with or without a port."""
        gone = [peer for peer in self.peers.values() if wanted in (peer.host, peer.address)]
        for peer in gone:
            self._drop(peer)
        return gone

    def _drop(self, peer: Peer) -> None:
        del self.peers[peer.id]
        self._tell(peer, "disconnected")

    def _tell(self, peer: Peer, kind: str) -> None:
        event = {"kind": kind, "id": peer.id, "addr": peer.address, "inbound": peer.inbound, "peers": len(self.peers)}
        self._publish("peers", event)

    def ban(self, host: str, now: int, seconds: int) -> list[Peer]:
        """Ban an address, and remove its peers."""
        self.bans[host] = Ban(host, now, now + seconds)
        self._publish("peers", {"kind": "banned", "addr": host, "banned_until": now + seconds})
        return self.disconnect(host)

    def step(self, now: int, height: int) -> None:
        """Expire bans, count messages, and occasionally add or remove a peer."""
        for host in [host for host, ban in self.bans.items() if ban.until <= now]:
            del self.bans[host]
        rng = self._rng
        for peer in self.peers.values():
            peer.bytes_sent += rng.randrange(2000)
            peer.bytes_received += rng.randrange(2000)
            peer.last_send = peer.last_receive = now
        if len(self.peers) < 2 or (len(self.peers) < MOST_PEERS and rng.random() < 0.15):
            self.connect(now, height)
        elif rng.random() < 0.1:
            self._drop(self.peers[rng.choice(list(self.peers))])
