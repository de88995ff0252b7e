"""The end of a subscription while its client subscribes again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dilithion_ws import RpcError
from dilithion_ws.events.cursor import EndOfStream
from dilithion_ws.util.enums import OfferResult

from ..support.hub import FakeSubscriber, make, settle


class Interrupted(FakeSubscriber):
    """Something happens while it is being offered bytes, and then it does not take them."""

    meanwhile: Callable[[], Any] | None = None

    def try_send(self, data: bytes, recipient: Any) -> OfferResult:
        if self.meanwhile is None:
            return super().try_send(data, recipient)
        meanwhile, self.meanwhile = self.meanwhile, None
        meanwhile()
        return OfferResult.REJECTED


def test_while_an_end_is_delivered_its_slot_is_not_reused() -> None:
    hub, client = make(), Interrupted(3)
    first, _ = hub.subscribe(client, "t")
    hub.activate(first)
    settle(hub)
    hub.end_all(first.topic, EndOfStream(-1, "over", {}))
    codes = []

    def subscribe_again() -> None:
        with pytest.raises(RpcError) as caught:
            hub.subscribe(client, "t")
        codes.append(caught.value.code)

    client.meanwhile = subscribe_again
    settle(hub)
    assert codes == [-32009]
    assert hub.cursors.of(3) == [first]
    hub.on_writable(3)  # it takes the end now
    settle(hub)
    assert hub.cursors.of(3) == []
    second, _ = hub.subscribe(client, "t")
    hub.activate(second)
    settle(hub)
    assert hub.cursors.of(3) == [second]
    hub.on_closed(3)
    settle(hub)
    assert not first.topic.in_use
    assert all(shard.is_empty for shard in hub.shards)
