"""Tests with one of these fixtures run with the synchronous client, and with that for asyncio."""

from __future__ import annotations

from typing import cast

import pytest

from dilithion_ws.client import Client

from ..support.loop_client import LoopClient


@pytest.fixture(params=[Client, LoopClient], ids=["threads", "asyncio"])
def client_class(request: pytest.FixtureRequest) -> type[Client]:
    return cast(type[Client], request.param)
