"""From samples to ratios, tables and a plot."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from .scenarios import SCENARIOS, Sample, Scenario
from .servers import US

Samples = dict[str, list[tuple[int, str, Sample]]]
"""By scenario: round, server and what was found."""


def ratio(taken: Iterable[tuple[int, str, Sample]], peer: str, key: str = "per_s") -> float | None:
    """The median over the rounds of ours divided by the peer's; of processor time per item, the peer's by ours."""
    values = {
        (number, name): sample[key] for number, name, sample in taken if sample.get(key) and "error" not in sample
    }
    pairs = [
        (values[number, US], other)
        for (number, name), other in values.items()
        if name == peer and (number, US) in values
    ]
    if not pairs:
        return None
    return float(median(theirs / ours if key == "cpu_us" else ours / theirs for ours, theirs in pairs))


def table(name: str, taken: list[tuple[int, str, Sample]]) -> str:
    """A scenario in Markdown."""
    scenario = SCENARIOS[name]
    rows = [_heading(scenario)]
    for server in scenario.servers:
        samples = [sample for _, who, sample in taken if who == server]
        if samples:
            rows.append(_row(scenario, server, samples, taken))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" + "|---:" * (len(rows[0]) - 1) + "|")
    return f"### {name}: {scenario.title}\n\n" + "\n".join(lines) + "\n"


def _heading(scenario: Scenario) -> list[str]:
    if scenario.unit == "bytes":
        return ["server", "bytes for each", "empty process, MiB"]
    if scenario.unit == "cpu":
        return ["server", "of one core"]
    more = ["slow p50 ms", "of the rate alone"] if scenario.title.startswith("fast") else []
    return ["server", f"{scenario.unit}/s", "CPU µs each", "p50 µs", "p99 µs", "we: times", "by CPU", "target", *more]


def _row(scenario: Scenario, server: str, samples: list[Sample], taken: list[tuple[int, str, Sample]]) -> list[str]:
    good = [sample for sample in samples if "error" not in sample]
    if not good:
        return [server, "failed: " + samples[0]["error"][:80], *[""] * (len(_heading(scenario)) - 2)]

    def middle(key: str, digits: int = 0, scale: float = 1.0) -> str:
        found = [sample[key] * scale for sample in good if key in sample]
        return f"{median(found):,.{digits}f}" if found else ""

    if scenario.unit == "bytes":
        return [server, middle("bytes"), middle("empty", 1, 1 / (1 << 20))]
    if scenario.unit == "cpu":
        return [server, middle("cpu", 2, 100) + " %"]
    ratios = ["", "", ""]
    if server != US:
        found = [ratio(taken, server), ratio(taken, server, "cpu_us")]
        ratios = [f"{one:.2f}" if one else "" for one in found]
        ratios.append(f"{scenario.targets[server]:.2f}" if server in scenario.targets else "")
    row = [server, middle("per_s"), middle("cpu_us", 2), middle("p50_us"), middle("p99_us"), *ratios]
    if scenario.title.startswith("fast"):
        row += [middle("slow_p50_us", 1, 1e-3), middle("of_alone", 2)]
    return row


def plot(samples: Samples, path: Path) -> None:
    """Draws, one field a scenario, what each server does with a second of processor time, into a PNG.

    By the second of the clock it would show what else the machine was doing.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in samples if SCENARIOS[name].unit not in ("bytes", "cpu")]
    columns = 3
    rows = -(-len(names) // columns)
    figure, fields = pyplot.subplots(rows, columns, figsize=(15, 3.2 * rows), squeeze=False)
    for field in fields.flat[len(names) :]:
        field.axis("off")
    for field, name in zip(fields.flat, names, strict=False):
        _draw(field, name, samples[name])
    figure.suptitle("For a second of the server's processor time", fontsize=11)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(path, dpi=80)


def _draw(field: Any, name: str, taken: list[tuple[int, str, Sample]]) -> None:
    scenario = SCENARIOS[name]
    values = {}
    for server in scenario.servers:
        found = [sample["cpu_us"] for _, who, sample in taken if who == server and sample.get("cpu_us")]
        if found:
            values[server] = 1e6 / median(found)
    ordered = sorted(values, key=values.__getitem__)
    colours = ["#1463c5" if server == US else "#b9c3cf" for server in ordered]
    bars = field.barh(ordered, [values[server] for server in ordered], color=colours)
    field.bar_label(bars, [f"{values[server]:,.0f}" for server in ordered], padding=3, fontsize=8)
    field.set_title(scenario.title, fontsize=9)
    field.set_xlim(0, max(values.values(), default=1) * 1.2)
    field.tick_params(labelsize=8)
    field.xaxis.set_visible(False)
    for side in ("top", "right", "bottom"):
        field.spines[side].set_visible(False)
