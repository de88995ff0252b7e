"""The arithmetic of the comparison; what it measures is not tested, and no test is timed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.report import ratio, table
from benchmarks.scenarios import SCENARIOS, visits
from benchmarks.servers import BARE, PEERS, US, read_sample

pytestmark = pytest.mark.load

TAKEN: list[tuple[int, str, dict[str, Any]]] = [
    (0, US, {"per_s": 200.0, "cpu_us": 5.0}),
    (0, "picows", {"per_s": 100.0, "cpu_us": 20.0}),
    (1, US, {"per_s": 50.0, "cpu_us": 10.0}),
    (1, "picows", {"per_s": 100.0, "cpu_us": 10.0}),
    (2, US, {"error": "3 answers were errors", "per_s": 1e6, "cpu_us": 0.1}),
    (2, "picows", {"per_s": 1000.0, "cpu_us": 1.0}),
]


def test_a_ratio_is_the_median_of_those_within_a_round() -> None:
    """A round in which one of the two failed has none."""
    assert ratio(TAKEN, "picows") == pytest.approx((2.0 + 0.5) / 2)
    assert ratio(TAKEN, "picows", "cpu_us") == pytest.approx((4.0 + 1.0) / 2)
    assert ratio(TAKEN, "aiohttp") is None


@pytest.mark.parametrize(
    ("found", "is_failure"),
    [
        ({"wrong": 0, "failed": 0, "failure": ""}, False),
        ({"wrong": 3, "failed": 0, "failure": ""}, True),
        ({"wrong": 0, "failed": 1, "failure": "closed by the server"}, True),
    ],
)
def test_a_sample_with_an_answer_that_is_an_error_has_failed(found: dict[str, Any], is_failure: bool) -> None:
    assert ("error" in read_sample(json.dumps(found))) is is_failure


def test_a_table_names_the_servers_that_failed() -> None:
    text = table("calls-50", [*TAKEN, (0, "aiohttp", {"error": "does not answer"})])
    assert "| aiohttp | failed: does not answer |" in text
    row = next(line for line in text.splitlines() if line.startswith("| picows"))
    assert "| 1.25 | 2.50 | 1.30 |" in row


def test_servers_with_a_target_are_measured_in_every_round_and_none_always_first() -> None:
    found = visits(SCENARIOS["calls-50"], 3, ())
    assert [number for number, name in found if name == "picows"] == [0, 1, 2]
    assert [number for number, name in found if name == "tornado"] == [0]
    assert {name for _, name in found} == {US, BARE, *PEERS}
    firsts = [next(name for number, name in found if number == wanted) for wanted in range(3)]
    assert len(set(firsts)) > 1
    assert {name for _, name in visits(SCENARIOS["calls-50"], 1, ["picows"])} == {US, "picows"}


def test_every_target_belongs_to_a_server_of_its_scenario() -> None:
    for name, scenario in SCENARIOS.items():
        assert set(scenario.targets) <= set(scenario.servers), name
