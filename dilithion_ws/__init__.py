"""A WebSocket server to embed in a node: JSON-RPC 2.0 over RFC 6455, answered by a thread pool.

    rpc = RpcTable()

    @rpc.method
    def getblockcount() -> int:
        return chain.height

    with WebSocketServer(rpc, Config(port=8333)) as server:
        server.wait()

Concurrency. Every method of `WebSocketServer` and `RpcTable` may be called from any thread. Handlers are plain functions
and may block: a slow one does not delay other clients.

Limits. Every bound is a field in one of the groups of `Limits`. An error for a limit names it, its value and its setting.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .auth.permissions import METHODS as NODE_METHODS
    from .config.config import Config
    from .config.limits import (
        CallLimits,
        ConnectionLimits,
        DeflateLimits,
        EventLimits,
        HistoryLimits,
        Limits,
        LoginLimits,
        MessageLimits,
        RateLimits,
    )
    from .errors import (
        CloseCode,
        CloseStatus,
        ConfigError,
        ConnectionNotFoundError,
        DilithionWsError,
        EventError,
        ForkError,
        JsonRpcCode,
        NotLeadingError,
        NotRunningError,
        OutboxFullError,
        RegistrationError,
        RpcError,
        StartError,
        UnknownTopicError,
    )
    from .events.election import Leadership
    from .events.log import Retention
    from .events.topic import Topic
    from .initialize import initialize_websocket
    from .protocol.message_encoder import Codec, Message
    from .rpc.context import CallContext
    from .rpc.method import RawBatchHandler, RawHandler
    from .rpc.passthrough import RawRpcError
    from .rpc.table import RpcTable
    from .server import WebSocketServer
    from .service.connection_info import ConnectionInfo
    from .service.http_routes import HttpCall, HttpReply
    from .service.raw_messages import MessageHandler
    from .service.statistics import ServerStatistics
    from .session import Session
    from .util.enums import RpcDialect
    from .util.systemd import sd_listen_sockets, sd_notify, sd_watchdog_seconds

__all__ = [
    "NODE_METHODS",
    "CallContext",
    "CallLimits",
    "CloseCode",
    "CloseStatus",
    "Codec",
    "Config",
    "ConfigError",
    "ConnectionInfo",
    "ConnectionLimits",
    "ConnectionNotFoundError",
    "DeflateLimits",
    "DilithionWsError",
    "EventError",
    "EventLimits",
    "ForkError",
    "HistoryLimits",
    "HttpCall",
    "HttpReply",
    "JsonRpcCode",
    "Leadership",
    "Limits",
    "LoginLimits",
    "Message",
    "MessageHandler",
    "MessageLimits",
    "NotLeadingError",
    "NotRunningError",
    "OutboxFullError",
    "RateLimits",
    "RawBatchHandler",
    "RawHandler",
    "RawRpcError",
    "RegistrationError",
    "Retention",
    "RpcDialect",
    "RpcError",
    "RpcTable",
    "ServerStatistics",
    "Session",
    "StartError",
    "Topic",
    "UnknownTopicError",
    "WebSocketServer",
    "__version__",
    "initialize_websocket",
    "sd_listen_sockets",
    "sd_notify",
    "sd_watchdog_seconds",
]

# The modules below are imported when a name of theirs is first used, so that a program with only the client, which
# imports `dilithion_ws.client`, does not import the server.
_MODULES = {
    "auth.permissions": ("METHODS",),
    "config.config": ("Config",),
    "config.limits": (
        "CallLimits",
        "ConnectionLimits",
        "DeflateLimits",
        "EventLimits",
        "HistoryLimits",
        "Limits",
        "LoginLimits",
        "MessageLimits",
        "RateLimits",
    ),
    "errors": (
        "CloseCode",
        "CloseStatus",
        "ConfigError",
        "ConnectionNotFoundError",
        "DilithionWsError",
        "EventError",
        "ForkError",
        "JsonRpcCode",
        "NotLeadingError",
        "NotRunningError",
        "OutboxFullError",
        "RegistrationError",
        "RpcError",
        "StartError",
        "UnknownTopicError",
    ),
    "events.election": ("Leadership",),
    "events.log": ("Retention",),
    "events.topic": ("Topic",),
    "initialize": ("initialize_websocket",),
    "protocol.message_encoder": ("Codec", "Message"),
    "rpc.context": ("CallContext",),
    "rpc.method": ("RawBatchHandler", "RawHandler"),
    "rpc.passthrough": ("RawRpcError",),
    "rpc.table": ("RpcTable",),
    "server": ("WebSocketServer",),
    "service.connection_info": ("ConnectionInfo",),
    "service.http_routes": ("HttpCall", "HttpReply"),
    "service.raw_messages": ("MessageHandler",),
    "service.statistics": ("ServerStatistics",),
    "session": ("Session",),
    "util.enums": ("RpcDialect",),
    "util.systemd": ("sd_listen_sockets", "sd_notify", "sd_watchdog_seconds"),
}
_ROOMS = {
    *("auth", "config", "errors", "events", "initialize", "net", "protocol", "rpc", "server", "service", "session"),
    *("stores", "util"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name (PEP 562)."""
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    original = "METHODS" if name == "NODE_METHODS" else name
    module = _MODULE_OF.get(original) if name in __all__ else None
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{module}", __name__), original)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
