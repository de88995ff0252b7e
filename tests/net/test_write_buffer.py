from __future__ import annotations

from dilithion_ws.net.write_buffer import WriteBuffer


class Taker:
    """Accepts the given numbers of bytes."""

    def __init__(self, *portions: int) -> None:
        self.portions = list(portions)
        self.taken = b""

    def __call__(self, data: bytes | memoryview) -> int:
        size = min(self.portions.pop(0), len(data)) if self.portions else 0
        self.taken += bytes(data[:size])
        return size


def test_the_buffer_keeps_order_over_partial_sends() -> None:
    buffer = WriteBuffer(1.0)
    pieces = [b"a" * 10, b"b" * 70_000, b"c", b"d" * 3]
    for piece in pieces:
        buffer.append(piece)
    assert buffer.size == 70_014
    taker = Taker(4, 50_000, 2)
    assert not buffer.drain(taker, 2.0)
    assert buffer.progress_at == 2.0
    taker.portions = [7, 3]
    assert not buffer.drain(taker, 3.0)
    taker.portions = [1 << 20] * 10
    assert buffer.drain(taker, 4.0)
    assert taker.taken == b"".join(pieces)
    assert buffer.size == 0


def test_no_progress_leaves_the_time_of_the_last() -> None:
    buffer = WriteBuffer(1.0)
    buffer.append(b"x")
    assert not buffer.drain(Taker(), 9.0)
    assert buffer.progress_at == 1.0


def test_small_pieces_leave_together() -> None:
    buffer = WriteBuffer(0.0)
    for _ in range(1000):
        buffer.append(b"0123456789")
    sizes = []

    def send(data: bytes | memoryview) -> int:
        sizes.append(len(data))
        return len(data)

    assert buffer.drain(send, 0.0)
    assert sizes == [10_000]
