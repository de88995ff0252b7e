"""The end of a subscription while its client subscribes again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dilithion_ws.events.cursor import Cursor, EndOfStream
from dilithion_ws.util.enums import OfferResult

from ..support.hub import FakeSubscriber, make, settle


class Interrupted(FakeSubscriber):
    """Something happens while it is being offered bytes: after it has accepted them, or before it does not."""

    meanwhile: Callable[[], Any] | None = None
    accepts = True

    def try_send(self, data: bytes, recipient: Any) -> OfferResult:
        if self.meanwhile is None:
            return super().try_send(data, recipient)
        meanwhile, self.meanwhile = self.meanwhile, None
        result = super().try_send(data, recipient) if self.accepts else OfferResult.REJECTED
        meanwhile()
        return result


@pytest.mark.parametrize("accepts", [True, False])
def test_a_client_subscribes_again_while_its_subscription_ends(accepts: bool) -> None:
    """A fast client has read the error before the shard has removed the subscription."""
    hub, client = make(), Interrupted(3)
    client.accepts = accepts
    first, _ = hub.subscribe(client, "t")
    hub.activate(first)
    settle(hub)
    hub.end_all(first.topic, EndOfStream(-1, "over", {}))
    again: list[Cursor] = []
    client.meanwhile = lambda: again.append(hub.subscribe(client, "t")[0])
    settle(hub)
    assert hub.cursors.of(3) == again
    hub.activate(again[0])
    hub.on_writable(3)
    hub.publish("t", {})
    settle(hub)
    assert ["error" in params for params in client.received] == [True, False][not accepts :]
    hub.on_closed(3)
    settle(hub)
    assert not first.topic.in_use
    assert all(shard.is_empty for shard in hub.shards)
