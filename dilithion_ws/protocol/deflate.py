"""permessage-deflate (RFC 7692), as an extension of our own on wsproto's `Extension`.

wsproto's own inflates without a bound, raises on parameters that are no numbers, accepts unknown and repeated ones, and
is confused by a ping between fragments and by a final block. Here:

- an offer with a parameter that is unknown, repeated, malformed or out of range is declined, and the next one is tried;
- inflating stops where a message is larger than its limit;
- neither side keeps a context between messages: `server_no_context_takeover` and `client_no_context_takeover` are always
  part of the answer, which section 7.1.1 allows. One deflated frame serves every subscriber, and a connection at rest has
  neither a compressor nor a decompressor.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from .frames import frame

__all__ = ["DeflateAgreement", "Deflater", "InflateExtension", "accept_offers"]

_NAME = "permessage-deflate"
_TAIL = b"\x00\x00\xff\xff"
_RSV1 = 0x40
_LARGEST_WINDOW = 15
_SMALLEST_WINDOW = 9
"""zlib can't write raw streams for a window of 256 bytes (8), so an offer that demands it is declined."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf';[ \t]*({_TOKEN})[ \t]*(?:=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)"))?[ \t]*')
_OFFER = re.compile(rf"[ \t]*({_TOKEN})[ \t]*(.*)", re.DOTALL)


class DeflateAgreement(NamedTuple):
    """What both sides have agreed on.

    Attributes:
        server_window: bits of the window that our messages are deflated with.
        client_window: bits of the window that is needed for the client's.
        answer: the value of the Sec-WebSocket-Extensions header that says so.
    """

    server_window: int
    client_window: int
    answer: str


def accept_offers(header: str, window: int) -> DeflateAgreement | None:
    """The first offer in a Sec-WebSocket-Extensions header that can be accepted (RFC 7692 section 5.1), None for none.

    Args:
        header: its value; a malformed one is as good as none.
        window: bits of the window that we should like both sides to use, 9 to 15.
    """
    for offer in _split(header):
        found = _OFFER.fullmatch(offer)
        if found is not None and found[1].lower() == _NAME:
            agreement = _accept(found[2], window)
            if agreement is not None:
                return agreement
    return None


def _split(header: str) -> list[str]:
    """The items of a list whose commas count outside of quotes only."""
    items, begin, quoted, escaped = [], 0, False, False
    for at, sign in enumerate(header):
        if escaped:
            escaped = False
        elif quoted and sign == "\\":
            escaped = True
        elif sign == '"':
            quoted = not quoted
        elif sign == "," and not quoted:
            items.append(header[begin:at])
            begin = at + 1
    return [*items, header[begin:]]


def _accept(parameters: str, window: int) -> DeflateAgreement | None:
    seen: dict[str, str | None] = {}
    if _PARAMETER.sub("", parameters):
        return None  # something in it is no parameter
    for name, token, quoted in _PARAMETER.findall(parameters):
        value = token or (re.sub(r"\\(.)", r"\1", quoted) if quoted else None)
        if name.lower() in seen:
            return None
        seen[name.lower()] = value
    for name, value in seen.items():
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                return None
        elif name in ("server_max_window_bits", "client_max_window_bits"):
            if value is None and name == "client_max_window_bits":
                continue
            if value is None or not re.fullmatch(r"[89]|1[0-5]", value):
                return None
        else:
            return None
    answer = [_NAME, "server_no_context_takeover", "client_no_context_takeover"]
    server_window = window
    demanded = seen.get("server_max_window_bits")
    if demanded is not None:
        server_window = min(window, int(demanded))
        if server_window < _SMALLEST_WINDOW:
            return None
        answer.append(f"server_max_window_bits={server_window}")
    client_window = _LARGEST_WINDOW
    if "client_max_window_bits" in seen:
        client_window = max(_SMALLEST_WINDOW, min(window, int(seen["client_max_window_bits"] or _LARGEST_WINDOW)))
        allowed = int(seen["client_max_window_bits"] or _LARGEST_WINDOW)
        answer.append(f"client_max_window_bits={min(client_window, allowed)}")
    return DeflateAgreement(server_window, client_window, "; ".join(answer))


class Deflater(NamedTuple):
    """How our messages are deflated.

    Attributes:
        window: bits of the window, 9 to 15.
        level: zlib's, 1 (quick) to 9 (small).
        memory: zlib's memory level, 1 to 9.
        minimum: bytes below which a message stays as it is.
    """

    window: int
    level: int
    memory: int
    minimum: int

    def frame(self, opcode: int, payload: bytes) -> bytes:
        """The frame of a message: deflated where that makes it smaller (section 7.2.1)."""
        if len(payload) < self.minimum:
            return frame(opcode, payload)
        compressor = zlib.compressobj(self.level, zlib.DEFLATED, -self.window, self.memory)
        small = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        small = small.removesuffix(_TAIL)
        if len(small) >= len(payload):
            return frame(opcode, payload)
        whole = frame(opcode, small)
        return bytes((whole[0] | _RSV1,)) + whole[1:]


class InflateExtension(Extension):
    """The receiving half for one message, as wsproto wants it.

    Args:
        window: bits of the window that the client may use.
        limit: bytes that the message may have, inflated.
    """

    name = _NAME

    def __init__(self, window: int, limit: int) -> None:
        self._window = window
        self._limit = limit
        self._size = 0
        self._deflated = False
        self._in_message = False
        self._is_control = False
        self._inflater: zlib._Decompress | None = None
        self._recent = b""  # the end of what was inflated, which a block behind a final one may refer to

    def enabled(self) -> bool:
        """It was negotiated before there was a wsproto connection."""
        return True

    def offer(self) -> bool | str:
        """Servers offer nothing."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """A frame begins: RSV1 may be set in the first one of a message (section 6)."""
        self._is_control = opcode.iscontrol()
        if self._is_control or opcode is Opcode.CONTINUATION:
            return RsvBits(False, False, False)  # wsproto refuses the bit then
        if not self._in_message:
            self._in_message = True
            self._deflated = rsv.rsv1
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """Bytes of a frame: inflated where they are of a deflated message."""
        if self._is_control or not self._deflated:
            return data
        return self._inflate(bytes(data))

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """The end of a frame: the last one of a deflated message gets back what the sender took off (section 7.2.2)."""
        if self._is_control or not fin:
            return None
        self._in_message = False
        if not self._deflated:
            return None
        self._deflated = False
        return self._inflate(_TAIL)

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        pieces: list[bytes] = []
        try:
            while data:
                if self._inflater is None:
                    self._inflater = zlib.decompressobj(-self._window, zdict=self._recent)
                room = self._limit - self._size
                piece = self._inflater.decompress(data, room + 1)
                if len(piece) > room:
                    return CloseReason.MESSAGE_TOO_BIG
                self._size += len(piece)
                pieces.append(piece)
                data = self._inflater.unconsumed_tail
                if self._inflater.eof:
                    # A final block is no end of the message (section 7.2.3.4): what follows begins another.
                    data = self._inflater.unused_data
                    self._inflater = None
                    self._recent = (self._recent + b"".join(pieces))[-(1 << self._window) :]
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        return b"".join(pieces)
