"""Tasks that pass a message to the host's own handler."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from dilithion_ws import Session
from dilithion_ws.net.interfaces import RawReply
from dilithion_ws.protocol.frames import BINARY, TEXT
from dilithion_ws.rpc.calls import BatchCall
from dilithion_ws.service.raw_messages import RawMessageCall, RpcReceiver

SESSION = Session(1, ("127.0.0.1", 1))


class Rpc:
    """Answers what the handler leaves to JSON-RPC."""

    def __init__(self, answer: Any = b"{}") -> None:
        self.answer = answer
        self.received: list[tuple[int, bytes]] = []

    def receive_rpc(self, session: Session, opcode: int, payload: bytes, denial: Any = None) -> Any:
        self.received.append((opcode, payload))
        return self.answer


def make(result: Any, opcode: int = TEXT, payload: bytes = b"hello", rpc: RpcReceiver | None = None) -> RawMessageCall:
    """Return the call of a handler with this result; an exception is raised."""

    def handler(session: Session, message: str | bytes) -> Any:
        if isinstance(result, BaseException):
            raise result
        return message if result is ... else result

    return RawMessageCall(handler, rpc or Rpc(), SESSION, opcode, payload)


@pytest.mark.parametrize(
    ("opcode", "result", "reply"),
    [
        (TEXT, ..., b"hello"),
        (TEXT, "text", b"text"),
        (TEXT, None, None),
        (BINARY, ..., RawReply(BINARY, b"hello")),
        (TEXT, bytearray(b"bytes"), RawReply(BINARY, b"bytes")),
    ],
    ids=["text as str", "str as text", "None", "binary as bytes", "bytes as binary"],
)
def test_the_result_of_the_handler_is_sent(opcode: int, result: Any, reply: Any) -> None:
    assert make(result, opcode).run() == reply


def test_a_message_that_the_handler_leaves_goes_to_json_rpc() -> None:
    rpc = Rpc()
    assert make(NotImplemented, rpc=rpc).run() == b"{}"
    assert rpc.received == [(TEXT, b"hello")]


@pytest.mark.parametrize("result", [ValueError("broken"), SystemExit(), 5.5])
def test_a_handler_that_fails_is_logged_and_nothing_is_sent(result: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert make(result).run() is None
    assert "on_message failed for" in caplog.text


def test_a_call_that_is_refused_gets_its_error() -> None:
    call = BatchCall(
        cast(Any, SimpleNamespace(slow_method_threshold=1.0)), Session(1, ("127.0.0.1", 1)), [b'{"error":1}']
    )
    assert make(..., rpc=Rpc(call)).refuse("no room") == b'[{"error":1}]'


def test_another_message_that_is_refused_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert make(...).refuse("no room") is None
    assert "was not handled: no room" in caplog.text


def test_a_handler_that_does_not_return_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    call = make(...)
    call.on_stall()
    call.expire()
    assert "on_message has not returned" in caplog.text
