"""A short form of `scripts/chaos`: faults on purpose, whose subscribers check every event."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chaos import machine, node, stores
from benchmarks.chaos.scenario import SCENARIOS, NotHereError, Terms
from benchmarks.chaos.swarm import Subscriber, Swarm

pytestmark = pytest.mark.load

ROOT = Path(__file__).parent.parent
IN_CI = ("upgrade", "kill", "full-disk", "few-files", "reorganisation")
assert all(module.__doc__ for module in (machine, node, stores)), "they add their scenarios"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", IN_CI)
def test_every_subscriber_gets_every_event_or_learns_of_the_loss(name: str, tmp_path: Path) -> None:
    try:
        assert SCENARIOS[name].run(Terms(tmp_path, short=True))
    except NotHereError as error:
        pytest.skip(str(error))


def test_the_command_lists_and_refuses() -> None:
    command = [sys.executable, "-m", "benchmarks.chaos"]
    listed = subprocess.run([*command, "--list"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(SCENARIOS)
    wrong = subprocess.run([*command, "flood"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (wrong.returncode, "there is no scenario flood" in wrong.stderr) == (2, True)


EVENT = {"epoch": "e", "seq": 3, "prev": 2, "result": {"n": 3}}


@pytest.mark.parametrize(
    ("change", "faults"),
    [({}, 0), ({"seq": 4, "prev": 3}, 1), ({"seq": 2, "prev": 1}, 1), ({"epoch": "f"}, 1), ({"prev": 1}, 1)],
)
def test_the_subscribers_see_what_is_missing_repeated_or_of_another_log(change: dict[str, object], faults: int) -> None:
    swarm = Swarm(1)
    one = Subscriber(swarm, 0)
    one.place = ("e", 2)
    params = {**EVENT, **change}
    swarm.learn(b"x", params)
    one.on_event(*swarm.known[b"x"])
    assert swarm.counts["faults"] == faults


def test_the_subscribers_see_another_event_at_the_same_position() -> None:
    swarm = Swarm(1)
    swarm.learn(b"x", EVENT)
    swarm.learn(b"y", {**EVENT, "result": {"n": 4}})
    assert len(swarm.faults) == 1
