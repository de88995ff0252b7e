"""From received bytes to messages: a short path for the common frame, wsproto for every other.

Theory of operation. A frame that is masked, final, without reserved bits, with a length in its shortest form, and either
a control frame other than close or a data frame at a message boundary, can mean one thing only. Such a frame is read
here: length check, unmask, UTF-8 check. It may also arrive in pieces; its text is then checked piece by piece, so that
bad UTF-8 is refused as it comes (RFC 6455 section 8.1). Every other frame is handed to wsproto, frame by frame, and
wsproto's word is final: fragments, deflated messages, close frames and everything that is invalid.

    boundary ──whole plain frame──▶ boundary            (short path, no state kept)
    boundary ──part of a plain data frame──▶ partial ──rest──▶ boundary
    boundary ──first fragment──▶ fragmented ──last fragment──▶ boundary   (wsproto lives for this long only)
    any      ──close frame, or anything invalid──▶ ended                  (terminal: later bytes are ignored)

The one difference to wsproto on purpose: a received close code 1014 is accepted, since IANA has registered it.
"""

from __future__ import annotations

import codecs

from .deflate import InflateExtension
from .frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, FrameHeader, close_payload, parse_header
from .masking import unmask
from .wsproto_adapter import FAILED, Event, WsprotoAdapter

__all__ = ["FAILED", "Event", "MessageParser"]

_FIN, _DEFLATED = 0x80, 0x40
_PLAIN = _FIN | _DEFLATED
_TOO_BIG = (1009).to_bytes(2, "big")
_OPCODES = (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
_BAD_UTF8 = "text is not valid UTF-8"
_BAD_GATEWAY = (1014).to_bytes(2, "big")
_USUAL_CLOSES = (b"", (1000).to_bytes(2, "big"), (1001).to_bytes(2, "big"))
"""What nearly all close frames say; to have wsproto say it again takes 30 µs."""
_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class _Partial:
    """A plain data frame of which only the beginning has arrived."""

    __slots__ = ("decoder", "key", "missing", "opcode", "payload")

    def __init__(self, opcode: int, key: bytes, length: int) -> None:
        self.opcode = opcode
        self.key = key
        self.missing = length
        self.payload = bytearray()
        self.decoder: codecs.IncrementalDecoder | None = None

    def feed(self, masked: bytes) -> bytes | None:
        """Takes the next masked bytes, returns the payload when it is whole.

        Raises:
            UnicodeDecodeError: at the first bytes that can't be part of a text.
        """
        turn = len(self.payload) & 3
        piece = unmask(masked, self.key[turn:] + self.key[:turn])
        self.missing -= len(piece)
        if self.opcode == TEXT and (self.decoder is not None or not piece.isascii()):
            # Pure ASCII needs no decoder; the first piece that is not makes one, for the rest of the frame.
            self.decoder = self.decoder or _utf8_decoder()
            self.decoder.decode(piece, not self.missing)
        if not self.missing and not self.payload:
            return piece
        self.payload += piece
        return None if self.missing else bytes(self.payload)


class MessageParser:
    """The receiving half of a server's WebSocket connection, fed with bytes and answering with events.

    Args:
        limit: bytes that one message may have; at least 125.
        too_big: the reason that a close frame gives when a message has more.
        window: bits of the window that deflated messages are inflated with; 0 where they were not negotiated.
    """

    __slots__ = (
        "_at_rest",
        "_doomed",
        "_fallback",
        "_left",
        "_limit",
        "_partial",
        "_size",
        "_tail",
        "_too_big",
        "_window",
        "ended",
    )

    def __init__(self, limit: int, too_big: str, window: int = 0) -> None:
        self._window = window
        self._limit = limit
        self._too_big = too_big
        self._tail = b""  # an incomplete header or control frame
        self._partial: _Partial | None = None
        self._fallback: WsprotoAdapter | None = None  # exists while a message is fragmented
        self._left = 0  # payload bytes that wsproto still misses of the frame whose header it has
        self._size = 0  # bytes announced so far for the fragmented message
        self._at_rest = True  # at a message boundary, with nothing kept
        self._doomed = False  # wsproto is about to refuse this frame: it gets all that follows
        self.ended = False

    def receive(self, data: bytes) -> list[Event]:
        """Takes received bytes, returns what they complete, in order; nothing any more once `ended` is true."""
        events: list[Event] = []
        if self._at_rest:
            # Small text messages, each whole: nearly all that a server gets. (122: less 6 bytes of header, plus the bit
            # of the mask.) The first frame that is anything else ends this, and `_receive` looks at it.
            at, end = 0, len(data)
            if 6 < end < 132 and data[0] == 0x81 and data[1] == end + 122:  # one alone; half the steps of the loop
                payload = unmask(data[6:], data[2:6])
                if payload.isascii():
                    return [(TEXT, payload)]
            while end - at > 6 and data[at] == 0x81:
                stop = at + data[at + 1] - 122
                if not at + 6 < stop <= end or stop > at + 131:
                    break
                payload = unmask(data[at + 6 : stop], data[at + 2 : at + 6])
                if not payload.isascii():
                    break
                events.append((TEXT, payload))
                at = stop
            if at == end:
                return events
            data = data[at:]
        self._receive(data, events)
        self._at_rest = not (self._tail or self._partial or self._fallback or self._left or self._doomed or self.ended)
        return events

    def _receive(self, data: bytes, events: list[Event]) -> None:
        if self._tail:
            data = self._tail + data
            self._tail = b""
        at, end = 0, len(data)
        while at < end and not self.ended:
            if self._partial is not None:
                at += self._take_partial(data, at, events)
            elif self._left or self._doomed:
                used = end - at if self._doomed else min(self._left, end - at)
                self._left = max(0, self._left - used)
                self._ask_wsproto(data[at : at + used], events)
                at += used
            else:
                # The whole small frame that is nearly all of the traffic, without building a Header for it.
                if end - at >= 6 and 0x80 <= data[at + 1] < 0xFE:
                    first = data[at]
                    stop = at + data[at + 1] - 122  # 6 bytes of header, and the length without its mask bit
                    if stop <= end and (
                        first == 0x89 or first == 0x8A or (self._fallback is None and (first == 0x81 or first == 0x82))
                    ):
                        payload = unmask(data[at + 6 : stop], data[at + 2 : at + 6])
                        if first == 0x81 and not payload.isascii() and not _is_utf8(payload):
                            self._fail(1007, _BAD_UTF8, events)
                        else:
                            events.append((first & 0x0F, payload))
                        at = stop
                        continue
                used = self._begin(data, at, events)
                if not used:
                    self._tail = data[at:]
                    break
                at += used

    def _begin(self, data: bytes, at: int, events: list[Event]) -> int:
        """Takes what there is of the frame that begins at `at`; returns the bytes used, 0 where more must come first."""
        header = parse_header(data, at)
        if _is_invalid(data, at, header, self._window):
            self._doomed = True
            return self._ask_wsproto(data[at:], events)
        if header is None:
            return 0
        opcode, start = header.first & 0x0F, at + header.size
        stop = start + header.length
        if opcode >= CLOSE:
            return self._take_control(data, at, start, stop, events)
        if not opcode and self._fallback is None:  # continues nothing
            self._doomed = True
            return self._ask_wsproto(data[at:], events)
        if header.length > self._limit - self._size:
            self._fail(1009, self._too_big, events)
            return len(data) - at
        if self._fallback is None and opcode and header.first & _PLAIN == _FIN:
            self._partial = _Partial(opcode, data[start - 4 : start], header.length)
            return header.size + self._take_partial(data, start, events)
        self._size += header.length
        self._left = max(0, stop - len(data))
        return self._ask_wsproto(data[at:stop], events)

    def _take_partial(self, data: bytes, at: int, events: list[Event]) -> int:
        partial = self._partial
        assert partial is not None
        piece = data[at : at + partial.missing]
        try:
            payload = partial.feed(piece)
        except UnicodeDecodeError:
            self._fail(1007, _BAD_UTF8, events)
        else:
            if payload is not None:
                self._partial = None
                events.append((partial.opcode, payload))
        return len(piece)

    def _take_control(self, data: bytes, at: int, start: int, stop: int, events: list[Event]) -> int:
        """A control frame with a valid header: waited for whole, since it is short and may not be fragmented."""
        if stop > len(data):
            return 0
        if data[at] & 0x0F == CLOSE:
            payload = unmask(data[start:stop], data[start - 4 : start])
            if payload in _USUAL_CLOSES or (payload[:2] == _BAD_GATEWAY and _is_utf8(payload[2:])):
                self.ended = True
                events.append((CLOSE, payload))
                return stop - at
        return self._ask_wsproto(data[at:stop], events)

    def _ask_wsproto(self, data: bytes, events: list[Event]) -> int:
        if self._fallback is None:
            self._fallback = WsprotoAdapter(InflateExtension(self._window, self._limit) if self._window else None)
        for event in self._fallback.feed(data):
            if event[0] == FAILED and event[1][:2] == _TOO_BIG:
                event = FAILED, close_payload(1009, self._too_big)
            events.append(event)
            if event[0] in (TEXT, BINARY):  # the last fragment: back at a message boundary
                self._fallback, self._size = None, 0
            elif event[0] in (CLOSE, FAILED):
                self.ended = True
        return len(data)

    def _fail(self, code: int, reason: str, events: list[Event]) -> None:
        self.ended = True
        events.append((FAILED, close_payload(code, reason)))


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_invalid(data: bytes, at: int, header: FrameHeader | None, window: int) -> bool:
    """Whether what is there of a header can't begin a valid frame, so that wsproto will refuse it."""
    if len(data) - at < 2:
        return False
    first, second = data[at], data[at + 1]
    opcode = first & 0x0F
    reserved = first & 0x70
    if reserved == _DEFLATED and window and opcode in (TEXT, BINARY):
        reserved = 0
    if reserved or opcode not in _OPCODES or second < 0x80:
        return True
    if opcode >= CLOSE and (not first & _FIN or second & 0x7F > 125):
        return True
    return header is not None and not header.minimal
