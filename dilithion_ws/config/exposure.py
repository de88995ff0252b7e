"""Who can reach a server, and whether that is safe: the one place that decides it.

A server is reached in three ways: by programs of this machine only; by clients of a network, through a proxy or a host
name of its own, in which case TLS is that program's matter; or by clients of a network directly. What is unsafe does not
start, unless the operator sets `rpcwebsocketinsecure=1`.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from ..errors import ConfigError
from ..util.ip import is_loopback
from .config import Config

__all__ = ["Exposure", "Reach", "Risk", "check_exposure", "exposure_of"]


class Reach(Enum):
    """Whose programs can send a server anything."""

    MACHINE = "programs of this machine"
    FORWARDED = "clients of a network, through another program"
    NETWORK = "clients of a network, directly"


class Risk(msgspec.Struct, frozen=True):
    """Why a configuration is unsafe.

    Attributes:
        text: one sentence, without its end.
        remedy: what to configure.
        key: the key that it is about.
    """

    text: str
    remedy: str
    key: str


class Exposure(msgspec.Struct, frozen=True):
    """Who can reach a server.

    Attributes:
        reach: whose programs.
        reason: the setting that makes it so, or "".
        risks: why that is unsafe; empty if it is not.
    """

    reach: Reach
    reason: str
    risks: tuple[Risk, ...]


_USERS = "users (rpcuser and rpcpassword, rpcwebsocketusersfile, or rpcwebsocketcookiefile)"
_TLS = "TLS (rpcsslcertificatechainfile and rpcsslprivatekeyfile)"


def exposure_of(config: Config, lends_account: bool = False) -> Exposure:
    """Return who can reach a server, and why that is unsafe, if it is.

    Args:
        config: its configuration.
        lends_account: whether its clients act with an account of its own, as those of a gateway do at the node.
    """
    reach, reason, key = _reach(config)
    risks = []
    needs_tls = reach is Reach.NETWORK and not config.has_tls
    needs_users = reach is not Reach.MACHINE and not config.has_users
    if needs_tls or needs_users:
        missing = [text for text, is_missing in ((_TLS, needs_tls), (_USERS, needs_users)) if is_missing]
        risks.append(Risk(f"{reason}, and the server has no {' and no '.join(missing)}", "Configure that", key))
    if lends_account and not config.has_users:
        text = "the gateway has an account at the node, and without users every client has the rights of that account"
        risks.append(Risk(text, f"Configure {_USERS}", "rpcwebsocketusersfile"))
    open_to = [origin for origin in config.allow_origins if origin.lower().rstrip("/") in ("*", "null")]
    if open_to and not config.has_users:
        text = f"rpcwebsocketalloworigin has {open_to[0]}, so that every page in a browser could use the server"
        risks.append(Risk(text, f"Configure {_USERS}, or the origins of your pages", "rpcwebsocketalloworigin"))
    return Exposure(reach, reason, tuple(risks))


def check_exposure(config: Config, lends_account: bool = False) -> None:
    """Raise ConfigError if a configuration is unsafe and does not say that it is meant."""
    risks = () if config.insecure else exposure_of(config, lends_account).risks
    if risks:
        risk = risks[0]
        raise ConfigError(f"{risk.text}. {risk.remedy}, or set rpcwebsocketinsecure=1 if that is meant.", risk.key)


def _reach(config: Config) -> tuple[Reach, str, str]:
    """Return the reach, the reason, and the key of the setting that is missing."""
    for address in config.addresses:
        if not _is_local(address):
            return Reach.NETWORK, f"{address} (rpcbind) is not a loopback address", "rpcbind"
    if config.trusted_proxies:
        reason = "clients come through a proxy (rpcwebsockettrustedproxies)"
        return Reach.FORWARDED, reason, "rpcwebsocketusersfile"
    for name in config.allow_hosts:
        if not _is_local(name):
            reason = f"the server is known as {name} (rpcwebsocketallowhost)"
            return Reach.FORWARDED, reason, "rpcwebsocketusersfile"
    return Reach.MACHINE, "", ""


def _is_local(name: str) -> bool:
    """Return whether a host name or an address, with or without a port, is one of this machine alone."""
    host = name[1:].partition("]")[0] if name.startswith("[") else name
    if host.count(":") == 1:
        host = host.partition(":")[0]
    return host.lower() == "localhost" or is_loopback(host)
