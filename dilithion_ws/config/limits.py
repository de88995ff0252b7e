"""Every bound of one server, in groups, with its default.

Sizes are in bytes and times in seconds. The key of a limit is `rpcwebsocket` and the field's name without underscores, so
an error can always state which setting to change: `limit_reached` writes that phrase.
"""

# Annotations are data here. As texts, each would be compiled at every import: 10 ms.
from typing import Annotated, Any

import msgspec

from .fields import SettingsGroup, build, limit, number_text, settings_of

__all__ = [
    "CallLimits",
    "ConnectionLimits",
    "DeflateLimits",
    "EventLimits",
    "HistoryLimits",
    "Limits",
    "LoginLimits",
    "MessageLimits",
    "RateLimits",
    "limit_reached",
]

KIB = 1024
MIB = 1024 * KIB


class ConnectionLimits(SettingsGroup, frozen=True, kw_only=True):
    """How many connections there may be, and how long they may take."""

    connections: Annotated[int, limit("connections", "Connections open at the same time.", le=1_000_000)] = 1024
    connections_per_address: Annotated[
        int, limit("connections", "Connections open at the same time from one address; loopback is exempt.")
    ] = 64
    handshake_timeout: Annotated[
        float, limit("s", "Seconds from accepting a connection to the end of its upgrade.", ge=0.01)
    ] = 10.0
    body_rate: Annotated[
        float,
        limit("bytes/s", "Bytes per second that a client sends of a body at least, beyond its first seconds.", ge=1),
    ] = 4096.0
    keep_alive_timeout: Annotated[
        float, limit("s", "Seconds from an HTTP response to the client's next request.", ge=0.01)
    ] = 75.0
    close_timeout: Annotated[
        float, limit("s", "Seconds from sending a close frame to receiving the peer's close frame.", ge=0.01)
    ] = 10.0
    linger_timeout: Annotated[
        float, limit("s", "Seconds from sending the last byte to the peer's end of stream.", ge=0.01)
    ] = 1.0
    header_size: Annotated[int, limit("bytes", "Bytes of request line and headers together.", ge=256)] = 16 * KIB
    header_fields: Annotated[int, limit("fields", "Header fields of a request.", ge=10)] = 100
    turn_time: Annotated[
        float,
        limit(
            "s", "Seconds for which one connection's messages are answered before the others get their turn.", ge=0.0
        ),
    ] = 0.0005
    answer_delay: Annotated[
        float,
        limit("s", "Seconds that an answer waits for those to other clients, to be sent with them; 0: not.", ge=0.0),
    ] = 0.0005
    outbox: Annotated[
        int, limit("bytes", "Unsent bytes of one connection beyond which the server stops reading from it.", ge=KIB)
    ] = 1 * MIB
    write_stall: Annotated[
        float, limit("s", "Seconds without progress in sending after which a connection is dropped.", ge=0.01)
    ] = 10.0
    ping_interval: Annotated[float, limit("s", "Seconds of silence before the server sends a ping.", ge=0.01)] = 20.0
    pong_timeout: Annotated[
        float, limit("s", "Seconds of silence after a ping before the server closes the connection.", ge=0.01)
    ] = 20.0
    frames_per_turn: Annotated[
        int,
        limit(
            "frames",
            "Frames of one connection that are looked at before the others get their turn; a chunk counts as 8.",
        ),
    ] = 32
    drain_timeout: Annotated[
        float, limit("s", "Seconds that running calls and close handshakes get when the server stops.", ge=0.0)
    ] = 10.0


class MessageLimits(SettingsGroup, frozen=True, kw_only=True):
    """How large messages may be."""

    message_size: Annotated[
        int, limit("bytes", "Bytes of one received message, all its fragments together and inflated.", ge=125)
    ] = 2 * MIB
    inline_message_size: Annotated[
        int, limit("bytes", "Bytes of a message beyond which a worker parses it, and not the event loop.", ge=125)
    ] = 64 * KIB
    result_size: Annotated[int, limit("bytes", "Bytes of one result, or of all results of one batch.", ge=64)] = (
        10 * MIB
    )
    batch_size: Annotated[int, limit("calls", "Calls in one batch.")] = 100
    core_batch_size: Annotated[
        int, limit("calls", "Calls in one batch in front of a node of the Bitcoin Core family.")
    ] = 1000
    json_values: Annotated[
        int,
        limit("values", "Values of a message: its commas, colons and opening brackets, also in strings.", ge=100),
    ] = 50_000
    json_depth: Annotated[int, limit("levels", "Nesting of arrays and objects in a message.", le=200)] = 32


class CallLimits(SettingsGroup, frozen=True, kw_only=True):
    """How calls run."""

    workers: Annotated[
        int, limit("threads", "Threads of the pool: one leads, one is spare, the others run slow calls.", ge=3)
    ] = 16
    request_workers: Annotated[
        int, limit("threads", "Further threads, which parse large messages and answer HTTP requests.")
    ] = 4
    handshake_workers: Annotated[int, limit("threads", "Further threads, for TLS handshakes if TLS is used.")] = 4
    calls_per_user: Annotated[
        int,
        limit(
            "calls", "Slow calls of one user or address that run at the same time; at most 3 in 4 threads for calls."
        ),
    ] = 10
    brief_call_time: Annotated[
        float,
        limit(
            "s",
            "Mean duration in seconds up to which calls of a method may use every free thread, beyond `calls_per_user`.",
            ge=0.0,
        ),
    ] = 0.05
    overdue_calls: Annotated[
        int,
        limit(
            "calls", "Calls past their timeout whose handlers still run, for which further threads are started.", ge=0
        ),
    ] = 16
    queue: Annotated[int, limit("calls", "Slow calls that may wait for a worker.", ge=0)] = 64
    in_flight: Annotated[
        int, limit("calls", "Slow calls of one connection beyond which the server stops reading from it.")
    ] = 20
    call_timeout: Annotated[float, limit("s", "Seconds from the arrival of a call to its answer.", ge=0.001)] = 30.0
    leader_stall_timeout: Annotated[
        float,
        limit(
            "s",
            "Seconds that a handler may take before another worker takes over the event loop.",
            ge=0.001,
            short_name="stall_after",
        ),
    ] = 0.02
    slow_method_threshold: Annotated[
        float,
        limit(
            "s",
            "Mean duration in seconds beyond which the calls of a method run in the pool.",
            ge=0.0,
            short_name="slow_after",
        ),
    ] = 0.002
    callback_backlog: Annotated[
        int, limit("callbacks", "Connect and disconnect callbacks that may wait for the host.")
    ] = 4096


class LoginLimits(SettingsGroup, frozen=True, kw_only=True):
    """How clients log in."""

    authentication_timeout: Annotated[
        float, limit("s", "Seconds from the upgrade to a successful login, if users are configured.", ge=0.01)
    ] = 10.0
    unauthenticated_message_size: Annotated[
        int, limit("bytes", "Bytes of a message, in one frame, of a client that has yet to log in.", ge=125)
    ] = 4 * KIB
    unauthenticated_connections: Annotated[
        int,
        limit(
            "connections",
            "Connections that have yet to log in; past that one of the busiest network is closed.",
        ),
    ] = 512
    unauthenticated_per_turn: Annotated[
        int, limit("connections", "Connections that have yet to log in which are served in a turn of the event loop.")
    ] = 4
    login_failures: Annotated[
        int,
        limit("logins", "Failed logins that close a connection; as many different ones lock out a name at an address."),
    ] = 5
    address_login_failures: Annotated[
        int, limit("logins", "Different failed logins that lock out an address, whatever the names.")
    ] = 20
    name_login_failures: Annotated[
        int, limit("logins", "Failed logins that lock out a name at addresses where it never logged in.")
    ] = 100
    remembered_guesses: Annotated[
        int, limit("logins", "Different passwords that are compared with remembered ones during a lock-out.", ge=0)
    ] = 20
    lockout: Annotated[float, limit("s", "Seconds of the first lock-out; each further one lasts twice as long.")] = 60.0
    lockout_longest: Annotated[float, limit("s", "Seconds of the longest lock-out.")] = 900.0
    login_workers: Annotated[
        int, limit("logins", "Passwords that are checked at the same time, by further threads.")
    ] = 2
    login_queue: Annotated[int, limit("logins", "Logins that may wait for their check.", ge=0)] = 64
    login_queue_per_address: Annotated[
        int, limit("logins", "Waiting logins that one address keeps if the queue is full and others arrive.")
    ] = 16
    password_cache_ttl: Annotated[
        float,
        limit(
            "s", "Seconds for which a verified password is not computed again.", ge=0.0, short_name="login_remembered"
        ),
    ] = 300.0


class RateLimits(SettingsGroup, frozen=True, kw_only=True):
    """How often clients may do something. A burst is the capacity of a token bucket, a rate its refill per second."""

    max_tracked_clients: Annotated[
        int,
        limit("clients", "Clients whose rates and failed logins are remembered.", ge=10, short_name="tracked_clients"),
    ] = 10_000
    call_burst: Annotated[int, limit("calls", "Calls of one user or address at once, all methods together.")] = 1000
    call_rate: Annotated[
        float, limit("calls/s", "Calls per second of one user or address, all methods together.", ge=0.001)
    ] = 200.0
    byte_burst: Annotated[int, limit("bytes", "Bytes received from one address at once.", ge=KIB)] = 16 * MIB
    byte_rate: Annotated[float, limit("bytes/s", "Bytes per second received from one address.", ge=1)] = 2.0 * MIB
    piece_cost: Annotated[
        int, limit("bytes", "Bytes of `byte_rate` that each frame and each chunk of a body costs in addition.", ge=0)
    ] = 256
    message_burst: Annotated[int, limit("messages", "Messages received from one address at once.")] = 2000
    message_rate: Annotated[float, limit("messages/s", "Messages per second received from one address.", ge=0.001)] = (
        400.0
    )
    connection_burst: Annotated[int, limit("connections", "Connections accepted from one address at once.")] = 64
    connection_rate: Annotated[
        float, limit("connections/s", "Connections per second accepted from one address.", ge=0.001)
    ] = 5.0
    max_rate_violations: Annotated[
        int,
        limit(
            "calls",
            "Calls refused in a row for their rate after which the connection is closed.",
            short_name="rate_strikes",
        ),
    ] = 100
    audit_burst: Annotated[
        int, limit("lines", "Lines of the audit log about one event and address at once; further ones are counted.")
    ] = 100
    audit_rate: Annotated[
        float, limit("lines/s", "Lines per second of the audit log about one event and address.", ge=0.001)
    ] = 1.0


class EventLimits(SettingsGroup, frozen=True, kw_only=True):
    """How much can be published and subscribed to."""

    subscriptions: Annotated[int, limit("subscriptions", "Subscriptions of one connection.")] = 128
    filter_values: Annotated[int, limit("values", "Values in the filter of one subscription.")] = 100
    filter_size: Annotated[int, limit("characters", "Characters of all values in the filter of one subscription.")] = (
        16 * KIB
    )
    follows: Annotated[int, limit("values", "Ids and addresses that one connection follows by `transactions`.")] = (
        10_000
    )
    all_follows: Annotated[int, limit("values", "Ids and addresses that all connections follow together.")] = 100_000
    follow_confirmations: Annotated[int, limit("blocks", "Confirmations that a client may ask for.", le=1000)] = 100
    follow_cache: Annotated[
        int, limit("bytes", "Bytes of blocks that are kept for those who follow transactions, with overhead.", ge=0)
    ] = 32 * MIB
    follow_backlog: Annotated[
        int, limit("bytes", "Bytes of events of `transactions` that wait for one connection.", ge=KIB)
    ] = 1 * MIB
    topics: Annotated[int, limit("topics", "Topics that the host may create.")] = 1000
    user_topics: Annotated[
        int, limit("topics", "Topics of single users; the one that was unused for longest gives way.")
    ] = 10_000
    event_size: Annotated[int, limit("bytes", "Bytes of one event as JSON.", ge=64)] = 1 * MIB
    pumps: Annotated[int, limit("threads", "Threads that deliver events, in addition to the workers.", le=64)] = 1


class HistoryLimits(SettingsGroup, frozen=True, kw_only=True):
    """How many events are kept, and how long a store may fail."""

    history_age: Annotated[float, limit("s", "Seconds for which an event is kept.", ge=0.01)] = 300.0
    history_size: Annotated[int, limit("bytes", "Bytes of the events kept of each topic.", ge=1024)] = 32 * MIB
    history_entries: Annotated[
        int, limit("events", "Events kept of each topic; each takes 150 bytes in addition to its own.")
    ] = 100_000
    history_lag: Annotated[
        float,
        limit(
            "s",
            "Seconds for which an event is kept beyond those numbers, up to twice as many, so that a burst loses none.",
            ge=0.0,
        ),
    ] = 5.0
    event_backlog: Annotated[int, limit("events", "Events that may wait for a durable store.")] = 10_000
    event_backlog_size: Annotated[
        int, limit("bytes", "Bytes of the events that may wait for a durable store.", ge=1024)
    ] = 64 * MIB
    store_unavailable_grace: Annotated[
        float,
        limit(
            "s",
            "Seconds without Redis after which subscriptions end with an error.",
            ge=0.01,
            short_name="store_patience",
        ),
    ] = 2.0
    store_retry: Annotated[
        float,
        limit(
            "s",
            "Seconds until a SQLite file that can't be used is tried again.",
            ge=0.01,
        ),
    ] = 10.0
    chain_blocks: Annotated[
        int, limit("blocks", "Blocks that are read back from the chain for a client that resumes from a block.", ge=0)
    ] = 100_000
    chain_cache: Annotated[
        int, limit("bytes", "Bytes of blocks that are kept for the next client that resumes from a block.", ge=0)
    ] = 8 * MIB
    leader_patience: Annotated[
        float, limit("s", "Seconds of silence after which another server on the same Redis takes over.", ge=0.1)
    ] = 3.0


class DeflateLimits(SettingsGroup, frozen=True, kw_only=True):
    """How messages are compressed, if permessage-deflate is offered (RFC 7692)."""

    deflate_window: Annotated[int, limit("bits", "Bits of the compression window.", ge=9, le=15)] = 12
    deflate_level: Annotated[int, limit("level", "Compression level, 1 (fast) to 9 (small).", le=9)] = 1
    deflate_memory: Annotated[int, limit("level", "Memory level of the compressor, 1 to 9.", le=9)] = 5
    deflate_minimum: Annotated[int, limit("bytes", "Size below which a message is not compressed.", ge=0)] = 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound of one server. A value out of range raises `ConfigError` when its group is made.

    Example:
        >>> limits = Limits(calls=CallLimits(workers=4))
        >>> limits == Limits.from_names(workers=4)
        True
    """

    connections: ConnectionLimits = ConnectionLimits()
    messages: MessageLimits = MessageLimits()
    calls: CallLimits = CallLimits()
    logins: LoginLimits = LoginLimits()
    rates: RateLimits = RateLimits()
    events: EventLimits = EventLimits()
    history: HistoryLimits = HistoryLimits()
    deflate: DeflateLimits = DeflateLimits()

    @classmethod
    def from_names(cls, **values: float) -> "Limits":
        """Make limits from the names of single fields, whatever group they are in.

        Raises:
            ConfigError: a value is out of bounds.
            KeyError: no limit has this name.
        """
        return build(cls, {_BY_NAME[name].path: value for name, value in values.items()})


_BY_NAME = {setting.name: setting for setting in settings_of(Limits)}


def limit_reached(limits: Limits, name: str) -> str:
    """Return the phrase that tells a client which limit it reached: its name, its value and its setting.

    It is short enough for a close reason (123 bytes, RFC 6455 section 5.5).
    """
    setting = _BY_NAME[name]
    value: Any = setting.get(limits)
    return f"{setting.short_name.replace('_', ' ')} limit of {number_text(value)} {setting.unit} ({setting.key})"
