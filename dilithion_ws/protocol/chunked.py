"""Check the framing of a chunked body (RFC 9112 section 7.1) more strictly than h11 does.

h11 accepts line ends of a bare LF, control characters in chunk extensions, and any number of trailer fields. A proxy in
front of the server may read such bytes differently, and so see another end of the body than the server does. Trailers are
refused: nothing here would use them.
"""

from __future__ import annotations

import re

__all__ = ["ChunkedChecker"]

_SIZE_LINE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_MAX_LINE = 256


class ChunkedChecker:
    """Follows the framing of one body, whatever pieces it arrives in.

    Attributes:
        is_done: whether the last chunk and the end of the body were seen; bytes after that are those of the next request.
    """

    __slots__ = ("_left", "_line", "is_done")

    def __init__(self) -> None:
        self._line = bytearray()  # the part of a size line, or of the end of a chunk, that has arrived
        self._left = -1  # bytes of the chunk still to come; 0 at its end, -1 before a size, -2 behind the last size
        self.is_done = False

    def check(self, data: bytes, max_lines: int = 1 << 30) -> int:
        """Return how many bytes fit the framing: all of them, or fewer after so many lines. Return -1 if some do not.

        Args:
            data: the next bytes of the body.
            max_lines: size lines and ends of chunks that are looked at.
        """
        at = 0
        while at < len(data) and not self.is_done and max_lines:
            if self._left > 0:
                taken = min(self._left, len(data) - at)
                self._left -= taken
                at += taken
                continue
            end = data.find(b"\n", at, at + _MAX_LINE)
            stop = end + 1 if end >= 0 else min(len(data), at + _MAX_LINE)
            self._line += data[at:stop]
            at = stop
            if len(self._line) > _MAX_LINE or (end < 0 and len(self._line) == _MAX_LINE):
                return -1
            if end < 0:
                continue
            if not self._line.endswith(b"\r\n") or not self._end_line(bytes(self._line[:-2])):
                return -1
            self._line.clear()
            max_lines -= 1
        return len(data) if self.is_done else at

    def _end_line(self, line: bytes) -> bool:
        if self._left == -1:
            found = _SIZE_LINE.fullmatch(line)
            if found is None:
                return False
            self._left = int(found[1], 16) or -2
            return True
        if line:
            return False  # something between a chunk and its end, or a trailer
        self.is_done = self._left == -2
        self._left = -1
        return True
