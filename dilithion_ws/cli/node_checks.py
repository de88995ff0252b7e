"""What `dilithion-ws check --gateway` looks at in addition: the node, and whether it wants the same port."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ..config.config import Config
from ..config.sources import LoadedConfig
from ..errors import RpcError
from ..gateway.dialects.detection import dialect_named
from ..gateway.gateway_config import GatewayConfig
from ..gateway.http_upstream import HttpUpstream, NodeAccount
from ..gateway.node_client import CircuitBreaker, NodeClient
from .checks import Finding, Level
from .gateway_command import shared_port_note

__all__ = ["check_node"]

_TIMEOUT = 5.0


def check_node(gateway: GatewayConfig, server: LoadedConfig[Config]) -> list[Finding]:
    """Report whether the node answers the gateway's account, and whether both would listen on one port."""
    return [*_check_node(gateway, server.config), *_check_port(server)]


def _check_node(gateway: GatewayConfig, server: Config) -> Iterator[Finding]:
    user, password = gateway.upstream_user or server.user, gateway.upstream_password or server.password
    upstream = HttpUpstream(gateway, NodeAccount(user, password, gateway.upstream_cookie), 1)
    client = NodeClient(upstream, dialect_named(gateway.dialect), time.monotonic, CircuitBreaker(time.monotonic))
    try:
        dialect = client.dialect or client.detect(_TIMEOUT)
        client.dialect = dialect
        height = bytes(client.call("getblockcount", b"", _TIMEOUT)).decode()
        yield Finding(Level.OK, "node", f"{gateway.upstream} speaks {dialect.name}, and has {height} blocks")
    except RpcError as error:
        yield Finding(Level.ERROR, "node", f"{gateway.upstream}: {error.message.removeprefix('Server busy: ')}")
    finally:
        upstream.close()


def _check_port(server: LoadedConfig[Config]) -> Iterator[Finding]:
    note = shared_port_note(server)
    if note:
        yield Finding(Level.WARNING, "port", note)
