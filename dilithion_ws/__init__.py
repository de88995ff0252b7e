"""A WebSocket server to embed in a node: JSON-RPC 2.0 over RFC 6455, answered from a thread pool.

    rpc = RpcTable()

    @rpc.method
    def getblockcount() -> int:
        return chain.height

    with WebSocketServer(rpc, Config(port=8333)) as server:
        server.wait()

Concurrency. Every method of `WebSocketServer` and `RpcTable` may be called from any thread. Handlers are plain functions
and may block: a slow one costs the others nothing.

Limits. Every bound is a field of `Limits`; whoever meets one is told its name, its value and its setting.
"""

from ._version import __version__
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
from .events.log import Retention
from .initialize import initialize_websocket
from .rpc.context import CallContext, Session
from .rpc.later import Later
from .rpc.passthrough import RawRpcError
from .rpc.table import RpcTable
from .server import WebSocketServer
from .service.connection_info import ConnectionInfo

__all__ = [
    "NODE_METHODS",
    "CallContext",
    "CallLimits",
    "CloseCode",
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
    "JsonRpcCode",
    "Later",
    "Limits",
    "LoginLimits",
    "MessageLimits",
    "NotLeadingError",
    "NotRunningError",
    "OutboxFullError",
    "RateLimits",
    "RawRpcError",
    "RegistrationError",
    "Retention",
    "RpcError",
    "RpcTable",
    "Session",
    "StartError",
    "UnknownTopicError",
    "WebSocketServer",
    "__version__",
    "initialize_websocket",
]
