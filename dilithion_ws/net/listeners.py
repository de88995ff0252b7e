"""The listening sockets of a server: made for the configured addresses, or given by the host or by systemd."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

import msgspec

from ..config.config import Config
from ..errors import ConfigError, StartError
from ..util.ip import is_loopback
from ..util.thread_contracts import owner_only

__all__ = ["Listeners", "adopt_sockets", "listen"]

_NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_MAX_PORT_TRIES = 16
"""Free ports that are tried until one is free on all addresses."""


class Listeners:
    """Listening, non-blocking sockets.

    Args:
        sockets: at least one.
        shared: whether another process has them, too, and will go on to accept connections from them: systemd, or a
            parent that starts the next server.

    Attributes:
        sockets: as given.
        port: the port of the first one.
    """

    def __init__(self, sockets: Sequence[socket.socket], *, shared: bool = False) -> None:
        self.sockets = list(sockets)
        self.port: int = self.sockets[0].getsockname()[1]
        self._shared = shared

    @owner_only
    def close(self) -> None:
        """Stop listening."""
        for sock in self.sockets:
            if not self._shared:
                try:
                    # A child that the host has forked has the socket, too: closed here alone, it would go on to take
                    # connections. Of a socket that is shared on purpose, connections that wait go to the next server.
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # some systems do not shut down a listening socket
            sock.close()


def listen(config: Config) -> Listeners:
    """Return sockets that listen on all addresses of a configuration, on one port.

    `::1` is left out on a machine without IPv6, unless it is the only address.

    Raises:
        StartError: an address cannot be resolved or is in use, or the process may not listen on the port.
    """
    for _ in range(_MAX_PORT_TRIES):
        listeners = _try_to_listen(config)
        if listeners is not None:
            return listeners
    raise StartError(f"can't listen: no port is free on all of {config.host}")


def adopt_sockets(config: Config, sockets: Sequence[socket.socket]) -> Config:
    """Return a configuration with the addresses and the port of the host's sockets, since they decide who can connect.

    Raises:
        ConfigError: a socket cannot be used.
    """
    if not sockets:
        return config
    for sock in sockets:
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
            raise ConfigError(f"sockets has {sock!r}; it takes TCP sockets of IPv4 or IPv6")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ConfigError(f"sockets has {sock!r}, which does not listen; call its listen() first")
        sock.setblocking(False)
    names = [sock.getsockname() for sock in sockets]
    return msgspec.structs.replace(config, host=",".join(name[0] for name in names), port=names[0][1])


def _try_to_listen(config: Config) -> Listeners | None:
    """Listen on all addresses. Return None if the port that was free on the first one is taken on another one."""
    sockets: list[socket.socket] = []
    port = config.port
    try:
        for address in config.addresses:
            for family, sockaddr in _resolve(address, port):
                if any(sock.getsockname()[0] == sockaddr[0] for sock in sockets):
                    continue  # two names for one address
                try:
                    sockets.append(_bind(config, family, sockaddr))
                except OSError as error:
                    if sockets and error.errno in _NO_IPV6 and is_loopback(sockaddr[0]):
                        continue
                    if sockets and error.errno == errno.EADDRINUSE and not config.port:
                        _close_all(sockets)
                        return None
                    hint = " (another program listens there)" if error.errno == errno.EADDRINUSE else ""
                    where = f"{sockaddr[0]}:{port}"
                    raise StartError(f"can't listen on {where}: {error.strerror or error}{hint}") from error
                port = sockets[0].getsockname()[1]
    except BaseException:
        _close_all(sockets)
        raise
    return Listeners(sockets)


def _resolve(address: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise StartError(f"can't listen on {address}:{port}: {error}") from error
    return [(family, sockaddr) for family, _, _, _, sockaddr in found]  # type: ignore[misc]


def _bind(config: Config, family: socket.AddressFamily, sockaddr: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # On Windows the option of this name lets another process take the address while it is in use.
        option = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
        listener.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6 and len(config.addresses) > 1:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # so that `0.0.0.0,::` does not collide
        listener.bind(sockaddr)
        listener.listen(config.backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _close_all(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
