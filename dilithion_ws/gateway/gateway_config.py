"""Settings of the gateway: where its node is, and what watching it may cost."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .. import ConfigError

__all__ = ["DIALECTS", "GatewayConfig"]

DIALECTS = ("auto", "dilithion", "core")

_MIB = 1024 * 1024


def _setting(default: Any, key: str, kind: str, text: str, *, secret: bool = False, minimum: float = 0.0) -> Any:
    metadata = {"key": f"rpcgateway{key}", "kind": kind, "help": text, "secret": secret, "minimum": minimum}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class GatewayConfig:
    """How one gateway is to run. A value out of range raises `ConfigError`.

    Attributes:
        upstream: the node's URL, such as `http://127.0.0.1:8332`; a path in it (`/wallet/name`) is kept.
        upstream_user, upstream_password: the gateway's account on the node.
        upstream_cookie: the node's cookie file, read again when the node has written another; instead of the two.
        dialect: `dilithion`, `core` (the family of Bitcoin Core), or `auto`: found out from the node's answers.
        zmq: addresses of the node's ZeroMQ publishers; one will do where it publishes everything there.
        poll_interval: seconds between two looks at the node.
        poll_longest: seconds between two looks at most, where looking is slow or fails.
        poll_share: the share of the time that looking may take.
        poll_timeout: seconds for one answer to a look.
        upstream_connections: calls that are with the node at a time.
        catch_up: blocks that are told one by one after an absence; past it the log begins anew.
        mempool: transactions of the mempool that are followed.
        answer_size: bytes of one answer of the node.
    """

    upstream: str = _setting("http://127.0.0.1:8332", "upstream", "text", "URL of the node")
    upstream_user: str = _setting("", "user", "text", "the gateway's account on the node (default: rpcuser)")
    upstream_password: str = _setting("", "password", "text", "its password (default: rpcpassword)", secret=True)
    upstream_cookie: str = _setting("", "cookiefile", "path", "the node's cookie file, instead of an account")
    dialect: str = _setting("auto", "dialect", "text", "auto, dilithion, or core for the family of Bitcoin Core")
    zmq: tuple[str, ...] = _setting((), "zmq", "list", "the node's ZeroMQ publishers, tcp://HOST:PORT")
    poll_interval: float = _setting(1.0, "pollinterval", "float", "s between two looks at the node", minimum=0.01)
    poll_longest: float = _setting(30.0, "polllongest", "float", "s between two looks at most", minimum=0.01)
    poll_share: float = _setting(0.2, "pollshare", "float", "share of the time that looking may take", minimum=0.001)
    poll_timeout: float = _setting(30.0, "polltimeout", "float", "s for one answer to a look", minimum=0.01)
    upstream_connections: int = _setting(8, "connections", "int", "calls with the node at a time", minimum=1)
    catch_up: int = _setting(2000, "catchup", "int", "blocks told one by one after an absence", minimum=1)
    mempool: int = _setting(100_000, "mempool", "int", "transactions of the mempool that are followed", minimum=0)
    answer_size: int = _setting(64 * _MIB, "answersize", "int", "bytes of one answer of the node", minimum=1024)

    def __post_init__(self) -> None:
        for name, item in self.__dataclass_fields__.items():
            value, data = getattr(self, name), item.metadata
            if data["kind"] in ("int", "float") and not data["minimum"] <= value < math.inf:
                raise ConfigError(f"{name} ({data['key']}) is {value!r}; it takes a number, at least {data['minimum']}")
        parts = urlsplit(self.upstream)
        try:
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise ConfigError(f"upstream (rpcgatewayupstream) is {self.upstream!r}; it takes http://HOST:PORT")
        if parts.username is not None or parts.password is not None:
            raise ConfigError("upstream (rpcgatewayupstream) has credentials in it; set rpcgatewayuser and -password")
        if bool(self.upstream_user) != bool(self.upstream_password):
            raise ConfigError("rpcgatewayuser and rpcgatewaypassword belong together: set both, or neither")
        if self.dialect not in DIALECTS:
            raise ConfigError(f"dialect (rpcgatewaydialect) is {self.dialect!r}; it takes {', '.join(DIALECTS)}")
        if self.poll_longest < self.poll_interval:
            raise ConfigError("poll_longest (rpcgatewaypolllongest) is shorter than rpcgatewaypollinterval")
        if self.poll_share > 1:
            raise ConfigError(f"poll_share (rpcgatewaypollshare) is {self.poll_share}; it takes a share, at most 1")
        for address in self.zmq:
            if not re.fullmatch(r"tcp://.+:\d{1,5}|ipc://.+", address):
                raise ConfigError(f"zmq (rpcgatewayzmq) has {address!r}; it takes tcp://HOST:PORT or ipc://PATH")

    @property
    def port(self) -> int:
        """The node's port."""
        parts = urlsplit(self.upstream)
        return parts.port or (443 if parts.scheme == "https" else 80)
