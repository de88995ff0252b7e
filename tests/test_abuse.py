"""A short form of `scripts/abuse`: attacks beside honest clients. It compares with the same clients without an attack."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.abuse import Outcome, measure, percentile
from benchmarks.attacks import ATTACKS

pytestmark = pytest.mark.load

ROOT = Path(__file__).parent.parent
FACTOR = 50
"""Of what the first version met, most was a hundred times as slow as without an attack, and some a thousand times."""


@pytest.fixture
def server() -> Iterator[tuple[int, int]]:
    """The port and the process of a server with its default limits."""
    command = [sys.executable, "-m", "benchmarks.abuse", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["port"], process.pid
        process.stdin.close()
        process.wait(20)


@pytest.mark.parametrize(
    "attack", ["fragments", "chunks", "members", "members-user", "waiting-calls", "openrpc", "half-messages", "batches"]
)
def test_honest_clients_hardly_notice_an_attack(server: tuple[int, int], attack: str) -> None:
    port, pid = server
    calm = measure(port, pid, "", 1.0)
    attacked = measure(port, pid, attack, 1.5)
    assert attacked.lost == attacked.refused == 0
    assert attacked.logins >= 1
    assert attacked.p95 < FACTOR * calm.p95
    assert attacked.growth < 128


def test_what_counts_as_a_successful_attack() -> None:
    calm = Outcome(1.0, 2.0, 0, 4, 0, 0.0, 0.0, 0.0)
    assert calm.faults(calm) == []
    bad = Outcome(5.1, 9.0, 1, 3, 1, 0.5, 0.5, 65.0)
    assert bad.faults(calm) == [
        "p95 above 5.0 ms",
        "calls without an answer",
        "logins refused",
        "memory above +64 MiB",
    ]


def test_a_percentile_of_nothing_is_not_small() -> None:
    assert percentile([], 0.95) == float("inf")
    assert percentile([float(number) for number in range(100)], 0.95) == 95.0


def test_there_are_many_attacks() -> None:
    assert len(ATTACKS) >= 25
