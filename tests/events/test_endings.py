"""The end of a subscription while its client subscribes again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dilithion_ws import RpcError
from dilithion_ws.events.cursor import EndOfStream
from dilithion_ws.events.subscriber import BUSY

from .test_model import FakeSink, make, settle


class Interrupted(FakeSink):
    """Something happens while it is being offered bytes, and then it does not take them."""

    meanwhile: Callable[[], Any] | None = None

    def offer(self, data: bytes, ticket: Any) -> int:
        if self.meanwhile is None:
            return super().offer(data, ticket)
        meanwhile, self.meanwhile = self.meanwhile, None
        meanwhile()
        return BUSY


def test_while_an_end_is_told_its_place_is_not_taken() -> None:
    hub, sink = make(), Interrupted(3)
    first, _ = hub.subscribe(sink, "t")
    hub.activate(first)
    settle(hub)
    hub.end_all(first.stream.topic, EndOfStream(-1, "over", {}))
    codes = []

    def subscribe_again() -> None:
        with pytest.raises(RpcError) as caught:
            hub.subscribe(sink, "t")
        codes.append(caught.value.code)

    sink.meanwhile = subscribe_again
    settle(hub)
    assert codes == [-32009]
    assert hub.of(3) == [first]
    hub.ready(3)  # it takes the end now
    settle(hub)
    assert hub.of(3) == []
    second, _ = hub.subscribe(sink, "t")
    hub.activate(second)
    settle(hub)
    assert hub.of(3) == [second]
    hub.closed(3)
    settle(hub)
    assert not first.stream.topic.in_use
    assert not any(shard._blocked for shard in hub.shards)
