"""Parse received bytes into messages: a fast path for the common frame, wsproto for every other.

Theory of operation. A frame that is masked, final, without reserved bits, with a length in its shortest form, and either
a control frame other than close or a data frame at a message boundary, can mean one thing only. Such a frame is parsed
here: length check, unmask, UTF-8 check. It may arrive in pieces; its text is then checked piece by piece, so that
invalid UTF-8 is refused as soon as it arrives (RFC 6455 section 8.1). Every other frame is passed to wsproto, frame by
frame, and wsproto's decision is final: fragments, compressed messages, most close frames, and everything invalid.

    boundary ──whole plain frame──▶ boundary            (frame_fast_path.py)
    boundary ──part of a plain data frame──▶ partial ──rest──▶ boundary
    boundary ──first fragment──▶ fragmented ──last fragment──▶ boundary   (wsproto exists only in between)
    any      ──close frame, or anything invalid──▶ ended                  (terminal: later bytes are ignored)

One call of `receive` parses a bounded number of frames, so that it takes about as long whatever the bytes are. It keeps
the others, and `has_more` says so: a packet of 64 KiB may consist of ten thousand empty fragments. A frame that wsproto
parses counts as eight, and a KiB of a long frame, or of what was inflated, as one, since that is what they cost. A
compressed frame is inflated in pieces, and may wait within.

A client that has not logged in gets a parser that is more strict (`one_frame`): messages in one frame only, and one at a
time, so that what follows a login is parsed after it (`lift`).

There is one deliberate difference to wsproto: a received close code 1014 is accepted, since IANA has registered it.
"""

from __future__ import annotations

import codecs

from ..errors import CloseCode
from .deflate import InflateExtension
from .frame_fast_path import is_utf8, parse_single_text, parse_small_frames
from .frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, FrameHeader, close_payload, parse_header
from .masking import unmask
from .wsproto_adapter import PROTOCOL_ERROR, MessageEvent, WsprotoAdapter

__all__ = ["PROTOCOL_ERROR", "MessageEvent", "MessageParser"]

_WSPROTO_COST = 8
_FIRST_PIECE, _LARGEST_PIECE = 128, 1024
_MUCH = 8192
"""Bytes of a compressed message that are inflated at once: at first few, since they may become a thousand times as many,
and twice as many after each piece that did not become this much."""
_FIN, _DEFLATED = 0x80, 0x40
_PLAIN = _FIN | _DEFLATED
_TOO_BIG = int(CloseCode.MESSAGE_TOO_BIG).to_bytes(2, "big")
_OPCODES = (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
_BAD_UTF8 = "text is not valid UTF-8"
_BAD_GATEWAY = (1014).to_bytes(2, "big")
_COMMON_CLOSES = (b"", int(CloseCode.NORMAL).to_bytes(2, "big"), int(CloseCode.GOING_AWAY).to_bytes(2, "big"))
"""Payloads of nearly all close frames. They are valid; asking wsproto for that takes 30 µs."""
_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class _PartialFrame:
    """A plain data frame of which only the beginning has arrived."""

    __slots__ = ("decoder", "key", "missing", "opcode", "payload")

    def __init__(self, opcode: int, key: bytes, length: int) -> None:
        self.opcode = opcode
        self.key = key
        self.missing = length
        self.payload = bytearray()
        self.decoder: codecs.IncrementalDecoder | None = None

    def feed(self, masked: bytes) -> bytes | None:
        """Add the next masked bytes. Return the payload once it is complete.

        Raises:
            UnicodeDecodeError: at the first bytes that cannot be part of a text.
        """
        rotation = len(self.payload) & 3
        piece = unmask(masked, self.key[rotation:] + self.key[:rotation])
        self.missing -= len(piece)
        if self.opcode == TEXT and (self.decoder is not None or not piece.isascii()):
            # ASCII needs no decoder; the first piece with other characters creates one for the rest of the frame.
            self.decoder = self.decoder or _utf8_decoder()
            self.decoder.decode(piece, not self.missing)
        if not self.missing and not self.payload:
            return piece
        self.payload += piece
        return None if self.missing else bytes(self.payload)


class MessageParser:
    """The receiving half of a server's WebSocket connection.

    Args:
        limit: bytes that one message may have; at least 125.
        too_big: the reason that a close frame carries if a message has more.
        window: bits of the window of compressed messages; 0 if compression was not negotiated.
        max_frames: frames that one call of `receive` parses.
        one_frame: the reason that a close frame carries if a message has several frames; "" if it may.

    Attributes:
        has_more: whether `receive` may return further events without further bytes.
        fragments: frames parsed so far that were only a part of a message.
        ended: whether a close frame or an error was returned; later bytes are ignored.
    """

    __slots__ = (
        "_forward_all",
        "_fragments_size",
        "_inflate",
        "_is_idle",
        "_limit",
        "_max_frames",
        "_missing",
        "_one_frame",
        "_partial",
        "_piece",
        "_recent",
        "_spent",
        "_tail",
        "_too_big",
        "_window",
        "_wsproto",
        "ended",
        "fragments",
        "has_more",
    )

    def __init__(
        self, limit: int, too_big: str, window: int = 0, max_frames: int = 1 << 30, one_frame: str = ""
    ) -> None:
        self._window = window
        self._limit = limit
        self._too_big = too_big
        self._max_frames = max_frames
        self._one_frame = one_frame
        self._tail = b""  # an incomplete header or control frame; if `has_more`, all that was not parsed yet
        self._partial: _PartialFrame | None = None
        self._wsproto: WsprotoAdapter | None = None  # exists while a message is fragmented
        self._inflate: InflateExtension | None = None  # that of the fragmented message
        self._recent = b""  # the latest inflated bytes, for a client that keeps its context
        self._piece = _FIRST_PIECE  # compressed bytes to inflate at once
        self._missing = 0  # payload bytes that wsproto still needs of the frame whose header it has
        self._fragments_size = 0  # bytes announced so far for the fragmented message
        self._spent = 0  # what the frames of this call count for, beyond one for each event
        self._is_idle = True  # at a message boundary, with nothing kept
        self._forward_all = False  # wsproto is about to refuse this frame, and gets all that follows
        self.ended = False
        self.has_more = False
        self.fragments = 0

    def receive(self, data: bytes) -> list[MessageEvent]:
        """Parse received bytes. Return the events that they complete, in order. After `ended` there are none.

        If `has_more` is true then, call it again, with b"" or with what has arrived since.
        """
        if self._is_idle:
            event = parse_single_text(data)
            if event is not None:
                return [event]
        events: list[MessageEvent] = []
        self._receive(data, events)
        self._is_idle = not (
            self._tail or self._partial or self._wsproto or self._missing or self._forward_all or self.ended
        )
        return events

    def lift(self, limit: int, too_big: str, max_frames: int) -> None:
        """Accept what any client may send, from the next frame on."""
        self._limit, self._too_big, self._max_frames, self._one_frame = limit, too_big, max_frames, ""

    def _receive(self, data: bytes, events: list[MessageEvent]) -> None:
        if self._tail:
            data = self._tail + data
            self._tail = b""
        self.has_more = False
        self._spent = 0
        at, end = 0, len(data)
        while at < end and not self.ended:
            max_events = self._max_frames - self._spent
            if len(events) >= max_events:
                self._tail = data[at:]
                self.has_more = True
                return
            if self._partial is not None:
                at += self._continue_partial(data, at, events)
            elif self._missing or self._forward_all:
                used = end - at if self._forward_all else min(self._missing, end - at)
                if self._inflate is not None and self._inflate.is_inflating and not self._forward_all:
                    used = min(used, self._piece)
                self._missing = max(0, self._missing - used)
                self._ask_wsproto(data[at : at + used], events)
                at += used
            else:
                at = parse_small_frames(data, at, events, self._wsproto is not None, max_events)
                if at == end:
                    return
                if len(events) >= max_events:
                    continue
                used = self._begin_frame(data, at, events)
                if not used:
                    self._tail = data[at:]
                    return
                at += used

    def _begin_frame(self, data: bytes, at: int, events: list[MessageEvent]) -> int:
        """Parse the beginning of the frame at `at`. Return the number of bytes used; 0 if more must arrive first."""
        header = parse_header(data, at)
        if _is_invalid(data, at, header, self._window):
            self._forward_all = True
            return self._ask_wsproto(data[at:], events)
        if header is None:
            return 0
        opcode, start = header.first & 0x0F, at + header.size
        stop = start + header.length
        if opcode >= CLOSE:
            return self._parse_control(data, at, start, stop, events)
        if not opcode and self._wsproto is None:  # a continuation of nothing
            self._forward_all = True
            return self._ask_wsproto(data[at:], events)
        if self._one_frame and not header.first & _FIN:
            self._fail(CloseCode.POLICY_VIOLATION, self._one_frame, events)
            return len(data) - at
        if header.length > self._limit - self._fragments_size:
            self._fail(CloseCode.MESSAGE_TOO_BIG, self._too_big, events)
            return len(data) - at
        if self._wsproto is None and opcode and header.first & _PLAIN == _FIN:
            self._partial = _PartialFrame(opcode, data[start - 4 : start], header.length)
            return header.size + self._continue_partial(data, start, events)
        self._fragments_size += header.length
        self.fragments += 1
        self._spent += _WSPROTO_COST - 1
        if self._window:
            self._missing = header.length  # in pieces, if it turns out to be compressed
            return self._ask_wsproto(data[at:start], events)
        self._missing = max(0, stop - len(data))
        return self._ask_wsproto(data[at:stop], events)

    def _continue_partial(self, data: bytes, at: int, events: list[MessageEvent]) -> int:
        partial = self._partial
        assert partial is not None
        piece = data[at : at + partial.missing]
        try:
            payload = partial.feed(piece)
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_PAYLOAD, _BAD_UTF8, events)
        else:
            if payload is not None:
                self._partial = None
                self._spent += len(payload) >> 10
                events.append(MessageEvent(partial.opcode, payload))
        return len(piece)

    def _parse_control(self, data: bytes, at: int, start: int, stop: int, events: list[MessageEvent]) -> int:
        """Parse a control frame with a valid header. It is kept until it is whole, since it is short."""
        if stop > len(data):
            return 0
        if data[at] & 0x0F == CLOSE:
            payload = unmask(data[start:stop], data[start - 4 : start])
            if payload in _COMMON_CLOSES or (payload[:2] == _BAD_GATEWAY and is_utf8(payload[2:])):
                self.ended = True
                events.append(MessageEvent(CLOSE, payload))
                return stop - at
        return self._ask_wsproto(data[at:stop], events)

    def _ask_wsproto(self, data: bytes, events: list[MessageEvent]) -> int:
        if self._wsproto is None:
            if self._window:
                self._inflate = InflateExtension(self._window, self._limit, self._recent)
                self._piece = _FIRST_PIECE
            self._wsproto = WsprotoAdapter(self._inflate)
        inflate = self._inflate
        inflated = 0 if inflate is None else inflate.size
        for event in self._wsproto.feed(data):
            if event.kind == PROTOCOL_ERROR and event.payload[:2] == _TOO_BIG:
                event = MessageEvent(PROTOCOL_ERROR, close_payload(CloseCode.MESSAGE_TOO_BIG, self._too_big))
            events.append(event)
            if event.kind in (TEXT, BINARY):  # the last fragment: back at a message boundary
                self._wsproto, self._fragments_size = None, 0
                if inflate is not None:
                    self._recent = inflate.recent
            elif event.kind in (CLOSE, PROTOCOL_ERROR):
                self.ended = True
        if inflate is not None:
            grown = inflate.size - inflated
            self._spent += grown >> 10
            self._piece = _FIRST_PIECE if grown > _MUCH else min(2 * self._piece, _LARGEST_PIECE)
        return len(data)

    def _fail(self, code: int, reason: str, events: list[MessageEvent]) -> None:
        self.ended = True
        events.append(MessageEvent(PROTOCOL_ERROR, close_payload(code, reason)))


def _is_invalid(data: bytes, at: int, header: FrameHeader | None, window: int) -> bool:
    """Return whether the received part of a header cannot begin a valid frame, so that wsproto will refuse it."""
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
