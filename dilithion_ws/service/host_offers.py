"""What the embedding program adds to its server: topics, histories, numbers for `/metrics`, subprotocols, HTTP paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..auth.credentials import BEARER_PREFIX
from ..errors import ConfigError
from ..events.block_digest import TransactionHooks
from ..events.chain_feeds import transactions_topic
from ..events.chain_history import ChainHooks
from ..events.hub import EventHub
from ..events.log import Retention
from ..events.node_topics import BY_KIND
from ..events.stream import named_mode
from ..events.topic import Topic, TopicSpec
from ..protocol.message_encoder import Codec
from ..util.thread_contracts import any_thread
from .health import HealthReports
from .http_routes import HttpRoutes
from .metrics import HostGauges
from .upgrades import SUBPROTOCOLS

__all__ = ["HostOffers"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")


class HostOffers:
    """The part of `WebSocketServer` by which a host adds to it.

    Args:
        events: the topics.

    Attributes:
        events: the topics.
        gauges: the host's numbers for `/metrics`; see `gauge`.
        routes, health: further HTTP paths of the host, and what it reports for `/health`.
        subprotocols: what clients may ask for, each with its encoding; see `subprotocol`.
    """

    def __init__(self, events: EventHub) -> None:
        self.events = events
        self.gauges = HostGauges()
        self.routes = HttpRoutes()
        self.health = HealthReports()
        self.subprotocols: dict[str, Codec | None] = dict(SUBPROTOCOLS)

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not stopped."""
        return False

    def _require_stopped(self, what: str) -> None:
        if self.is_running:
            raise ConfigError(f"call {what}() before the server is started")

    @any_thread
    def topic(
        self,
        name: str,
        *,
        permission: str | None = None,
        retention: Retention | None = None,
        mode: str = "all",
        filters: Mapping[str, str] | None = None,
        schema: Any = None,
    ) -> Topic:
        """Create a topic, which the host can publish to. The node's four topics exist already.

        Args:
            name: what clients subscribe to: up to 128 printable characters, not beginning with `user/`.
            permission: what a subscriber must be allowed: names of permissions, joined by `|`. None restricts it to the
                role admin.
            retention: how much is kept for clients that reconnect; default: as the limits `history_...` define.
            mode: what subscribers receive who do not ask for a mode: `all`, or `latest` for a topic of states of which
                only the newest matters.
            filters: the members that subscribers may filter by, as `{filter member: event member}`; default: `kind`.
            schema: a type that events must fit, as msgspec defines it; default: any.

        Raises:
            ConfigError: the name is in use or malformed, or there are too many topics.
        """
        wanted = BY_KIND if filters is None else filters
        spec = TopicSpec(name, retention, permission, named_mode(mode, name), wanted, schema)
        return self.events.add(spec)

    @any_thread
    def history(
        self,
        topic: str,
        read: Callable[[int, int], Sequence[Mapping[str, Any]]],
        find: Callable[[str], Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Let clients subscribe to `blocks` from a block that they know, however long ago that was. Before `start`.

        Args:
            topic: `blocks`, or a topic of the host with the same events.
            read: gets a height and a count, and returns that many blocks of the best chain from there, or as many as
                there are, each as the event that it was connected.
            find: gets a hash, and returns the same of any block that the node knows, or None. Without it, clients whose
                last block is not on the best chain any more are refused with the reason `fork`.

        Both run in a thread of their own and may block. They must show all that was published.

        Raises:
            UnknownTopicError: the topic does not exist.
            ConfigError: it has a history already, or the server is running.
        """
        self._require_stopped("history")
        self.events.chains.add_history(self.events.topic(topic), ChainHooks(read, find))

    @any_thread
    def transactions(
        self,
        read: Callable[[str], Iterable[Mapping[str, Any]]],
        pending: Callable[[], Iterable[Mapping[str, Any]]] | None = None,
    ) -> None:
        """Let clients follow transactions by the topic `transactions`. Call `history("blocks", ...)` first.

        Args:
            read: gets the hash of a block of any branch, and returns its transactions, each with `txid` and, as far as
                they are known, `addresses`.
            pending: returns the same of the transactions in the mempool. Without it, those are not reported that were
                in the mempool before and are not in the log of `mempool` any more.

        They run in the thread of `history` and may block. What comes to the mempool and leaves it is taken from the
        events of the topic `mempool`.

        Raises:
            ConfigError: there is no history of blocks, transactions can be followed already, or the server is running.
        """
        self._require_stopped("transactions")
        self.events.chains.add_transactions(self.events.topic("mempool"), TransactionHooks(read, pending))
        self.events.add(transactions_topic())

    @any_thread
    def subprotocol(self, name: str, codec: Codec) -> None:
        """Offer a WebSocket subprotocol of the host, from the next start on. It takes precedence over the server's own.

        Args:
            name: a token, as clients ask for it (RFC 6455 section 1.9).
            codec: encodes and decodes the JSON-RPC messages of its clients. It must not block: events wait for it.

        Raises:
            ConfigError: the name is not a token, or is in use.
        """
        if not _TOKEN.fullmatch(name) or name in self.subprotocols or name.startswith(BEARER_PREFIX):
            raise ConfigError(f"{name[:64]!r} can't be a subprotocol of the host: it is not a token, or is in use")
        self.subprotocols = {name: codec, **self.subprotocols}

    @any_thread
    def gauge(self, name: str, text: str, read: Callable[[], float | None]) -> None:
        """Add a number of the host to `/metrics`.

        Args:
            name: letters, digits and `_`, without the prefix `dilithion_ws_`, which the server's own have.
            text: one line that describes it.
            read: returns it, whenever the metrics are requested, without blocking; None leaves it out, as an error does.

        Raises:
            ConfigError: the name is malformed or in use.
        """
        self.gauges.add(name, text, read)
