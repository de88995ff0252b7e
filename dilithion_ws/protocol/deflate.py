"""permessage-deflate (RFC 7692), as an extension of wsproto's base class.

wsproto's own extension inflates without a bound, raises on malformed numbers, accepts unknown and repeated parameters,
and fails on a ping between fragments and on a final block. In this one:

- an offer with an unknown, repeated, malformed or out-of-range parameter is declined, and the next one is tried;
- inflating stops as soon as a message exceeds its limit;
- neither side keeps a context between messages: the answer always contains `server_no_context_takeover` and
  `client_no_context_takeover`, which section 7.1.1 allows. So one compressed frame serves every subscriber, and an idle
  connection has neither a compressor nor a decompressor;
- a client that keeps its context nevertheless, such as Safari 15 and Tornado, is understood: the latest inflated bytes,
  one window of them at most, are the dictionary of the next message.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from .frames import encode_frame

__all__ = ["DeflateAgreement", "Deflater", "InflateExtension", "accept_offers"]

_NAME = "permessage-deflate"
_TAIL = b"\x00\x00\xff\xff"
_RSV1 = 0x40
_LARGEST_WINDOW = 15
_SMALLEST_WINDOW = 9
"""zlib cannot write raw streams with a window of 256 bytes (8 bits), so an offer that requires it is declined."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf';[ \t]*({_TOKEN})[ \t]*(?:=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)"))?[ \t]*')
_ITEM = re.compile(r'(?:[^",]+|"(?:[^"\\]+|\\.?)*"?)+', re.DOTALL)
"""An item of a list: what is between commas outside of quotes. It matches whatever follows, so it never backtracks."""
_OFFER = re.compile(rf"[ \t]*({_TOKEN})[ \t]*(.*)", re.DOTALL)


class DeflateAgreement(NamedTuple):
    """The negotiated parameters.

    Attributes:
        server_window: bits of the window that the server compresses with.
        client_window: bits of the window that the client may use.
        answer: the value of the Sec-WebSocket-Extensions response header.
    """

    server_window: int
    client_window: int
    answer: str


def accept_offers(header: str, window: int) -> DeflateAgreement | None:
    """Return the first acceptable offer in a Sec-WebSocket-Extensions header (RFC 7692 section 5.1), or None.

    Args:
        header: its value; a malformed one contains no offer.
        window: bits of the window that both sides should use, 9 to 15.
    """
    for offer in _ITEM.findall(header):
        found = _OFFER.fullmatch(offer)
        if found is not None and found[1].lower() == _NAME:
            agreement = _accept(found[2], window)
            if agreement is not None:
                return agreement
    return None


def _accept(parameters: str, window: int) -> DeflateAgreement | None:
    seen: dict[str, str | None] = {}
    if _PARAMETER.sub("", parameters):
        return None  # something in it is not a parameter
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
    """Compresses messages of the server.

    Attributes:
        window: bits of the window, 9 to 15.
        level: zlib's compression level, 1 (fast) to 9 (small).
        memory: zlib's memory level, 1 to 9.
        minimum: size in bytes below which a message is not compressed.
    """

    window: int
    level: int
    memory: int
    minimum: int

    def encode_frame(self, opcode: int, payload: bytes) -> bytes:
        """Return the frame of a message, compressed if that makes it smaller (section 7.2.1)."""
        if len(payload) < self.minimum:
            return encode_frame(opcode, payload)
        compressor = zlib.compressobj(self.level, zlib.DEFLATED, -self.window, self.memory)
        small = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        small = small.removesuffix(_TAIL)
        if len(small) >= len(payload):
            return encode_frame(opcode, payload)
        whole = encode_frame(opcode, small)
        return bytes((whole[0] | _RSV1,)) + whole[1:]


class InflateExtension(Extension):
    """Inflates one received message, as an extension of wsproto.

    Args:
        window: bits of the window that the client may use.
        limit: bytes that the inflated message may have.
        recent: the latest inflated bytes of earlier messages, which a client that keeps its context refers to.

    Attributes:
        recent: the latest inflated bytes, with those of this message.
        size: bytes inflated so far.
        is_inflating: whether the present message is compressed, once the header of its first frame was passed.
    """

    name = _NAME

    def __init__(self, window: int, limit: int, recent: bytes = b"") -> None:
        self._window = window
        self._limit = limit
        self.size = 0
        self.is_inflating = False
        self._in_message = False
        self._is_control = False
        self._inflater: zlib._Decompress | None = None
        self.recent = recent

    def enabled(self) -> bool:
        """Return True: it was negotiated before the wsproto connection was made."""
        return True

    def offer(self) -> bool | str:
        """Return False: servers make no offers."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Accept RSV1 in the first frame of a message (section 6)."""
        self._is_control = opcode.iscontrol()
        if self._is_control or opcode is Opcode.CONTINUATION:
            return RsvBits(False, False, False)  # wsproto then refuses the bit
        if not self._in_message:
            self._in_message = True
            self.is_inflating = rsv.rsv1
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """Inflate bytes of a frame, if its message is compressed."""
        if self._is_control or not self.is_inflating:
            return data
        return self._inflate(bytes(data))

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """Append the tail that the sender has removed, at the end of a compressed message (section 7.2.2)."""
        if self._is_control or not fin:
            return None
        self._in_message = False
        if not self.is_inflating:
            return None
        self.is_inflating = False
        return self._inflate(_TAIL)

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        pieces: list[bytes] = []
        try:
            while data:
                if self._inflater is None:
                    self._inflater = zlib.decompressobj(-self._window, zdict=self.recent)
                room = self._limit - self.size
                piece = self._inflater.decompress(data, room + 1)
                if len(piece) > room:
                    return CloseReason.MESSAGE_TOO_BIG
                self.size += len(piece)
                pieces.append(piece)
                window = 1 << self._window
                self.recent = (self.recent + piece)[-window:] if len(piece) < window else piece[-window:]
                data = self._inflater.unconsumed_tail
                if self._inflater.eof:
                    # A final block does not end the message (section 7.2.3.4): another stream begins.
                    data = self._inflater.unused_data
                    self._inflater = None
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        return b"".join(pieces)
