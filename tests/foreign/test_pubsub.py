"""A client of another chain's pub/sub gets events in the form that it knows."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from ..support import wait_for
from ..support.client_programs import PROGRAMS
from ..support.fixtures import ServerFactory
from ..support.subscriptions import block

POLKADOT = next(program for program in PROGRAMS if program.name == "polkadot_websocket.mjs")


@pytest.mark.skipif(not POLKADOT.is_available, reason="needs @polkadot/rpc-provider (scripts/prepare)")
def test_polkadot_s_provider(start: ServerFactory) -> None:
    server = start()
    program = Path(shutil.copy(POLKADOT.path, POLKADOT.folder / "pubsub.mjs"))  # modules are found from there
    command: list[str | Path] = ["node", program, server.url, "", "", "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        id = process.stdout.readline().strip()
        assert id == wait_for(server.events.cursors.all)[0].stream.id
        server.publish("blocks", block(7))
        assert json.loads(process.stdout.readline())["height"] == 7
        assert process.stdout.readline() == "840000\n"
        assert process.wait(20) == 0
    wait_for(lambda: not server.events.cursors.all())
