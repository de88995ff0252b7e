"""The steps from the published chain to the node's: every block once and in order, whatever the node does meanwhile."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dilithion_ws.gateway.chain_tracker import ChainBlock, ChainStep, ChainTracker, GapError, tip_after


class Model:
    """A node's chain that grows and is reorganised."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.known: dict[str, ChainBlock] = {}
        self.best: list[ChainBlock] = []
        self.mine()

    def mine(self) -> None:
        previous = self.best[-1].hash if self.best else "0" * 64
        block = ChainBlock(len(self.best), f"block {next(self.numbers)}", previous, 5, 1, ("tx",))
        self.known[block.hash] = block
        self.best.append(block)

    def reorganise(self, depth: int, length: int) -> None:
        del self.best[max(1, len(self.best) - depth) :]
        for _ in range(length):
            self.mine()

    def fetch(self, hash: str) -> ChainBlock:
        if hash not in self.known:
            raise GapError("unknown")
        return self.known[hash]

    def fetch_range(self, first: int, last: int) -> list[ChainBlock]:
        return self.best[first : last + 1]


def follow(chain: ChainTracker, model: Model) -> list[ChainStep]:
    """Return the steps until the node's tip is reached."""
    told: list[ChainStep] = []
    while steps := chain.next_steps(len(model.best) - 1, model.best[-1].hash, model.fetch, model.fetch_range):
        for step in steps:
            chain.record(step)
        told += steps
    return told


def apply(view: list[str], told: list[ChainStep]) -> None:
    """Apply steps as a client does; fail if they do not fit."""
    for step in told:
        if step.connected:
            assert step.block.previous == view[-1]
            assert step.block.height == len(view)
            view.append(step.block.hash)
        else:
            assert view.pop() == step.block.hash
            assert step.block.previous == view[-1]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("mine"), st.integers(1, 130), st.just(0)),
        st.tuples(st.just("reorganise"), st.integers(1, 30), st.integers(0, 40)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=300)
@given(ACTIONS)
def test_a_view_that_follows_is_the_node_s_chain(actions: list[Any]) -> None:
    model = Model()
    chain = ChainTracker(model.best[-1], 200)
    view = [block.hash for block in model.best]
    last: dict[str, Any] = model.best[-1].event("connected")
    for action, first, second in actions:
        if action == "mine":
            for _ in range(first):
                model.mine()
        elif action == "reorganise":
            model.reorganise(first, second)
        else:  # of the gateway, which then knows no more than the last event
            chain = ChainTracker(tip_after(last), 200)
        told = follow(chain, model)
        apply(view, told)
        if told:
            last = told[-1].block.event("connected" if told[-1].connected else "disconnected")
        assert view == [block.hash for block in model.best]
        assert chain.tip.hash == model.best[-1].hash


def test_the_blocks_of_an_absence_are_bounded() -> None:
    model = Model()
    chain = ChainTracker(model.best[0], 10)
    for _ in range(11):
        model.mine()
    with pytest.raises(GapError, match="11 blocks are missing, past the limit of 10 \\(rpcgatewaycatchup\\)"):
        follow(chain, model)


def test_a_reorganisation_past_what_is_remembered_is_a_gap() -> None:
    model = Model()
    for _ in range(30):
        model.mine()
    chain = ChainTracker(model.best[-1], 10)
    model.reorganise(20, 20)
    with pytest.raises(GapError):
        follow(chain, model)


def test_another_chain_altogether_is_a_gap() -> None:
    model, other = Model(), Model()
    other.known.clear()
    other.best.clear()
    other.numbers = itertools.count(1000)
    other.mine()
    with pytest.raises(GapError, match="no block in common"):
        follow(ChainTracker(model.best[0], 10), other)


def test_a_node_that_has_lost_blocks_returns_to_the_published_ones() -> None:
    """It was killed before it had written them down: the published blocks are remembered here."""
    model = Model()
    chain = ChainTracker(model.best[0], 100)
    view = [model.best[0].hash]
    for _ in range(20):
        model.mine()
        apply(view, follow(chain, model))
    for block in model.best[5:]:
        del model.known[block.hash]
    model.reorganise(16, 2)
    apply(view, follow(chain, model))
    assert view == [block.hash for block in model.best]
    assert len(view) == 7


def test_a_chain_that_changes_while_it_is_read_is_read_again() -> None:
    model = Model()
    chain = ChainTracker(model.best[0], 100)
    for _ in range(5):
        model.mine()
    height, hash = len(model.best) - 1, model.best[-1].hash
    old = list(model.best)
    model.reorganise(3, 4)

    def mixed(first: int, last: int) -> list[ChainBlock]:
        return [*old[first : last - 1], *model.best[last - 1 : last + 1]]

    steps = chain.next_steps(height, hash, model.fetch, mixed)
    assert [step.block.hash for step in steps] == [block.hash for block in old[1:]]  # the branch that was seen
