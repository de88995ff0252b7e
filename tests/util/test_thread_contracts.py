from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dilithion_ws.util.thread_contracts import (
    any_thread,
    contract_of,
    install_checks,
    leader_only,
    owner_only,
    requires,
)

from ..support.thread_contracts import shared_classes, undeclared_methods


class Machine:
    def __init__(self) -> None:
        self.leader: int | None = None
        self.lock = threading.Lock()
        self.inside = threading.Event()
        self.may_leave = threading.Event()

    @leader_only
    def lead(self) -> str:
        return "led"

    @any_thread
    def ask(self) -> str:
        return "asked"

    @requires("lock")
    def count(self) -> str:
        return "counted"

    @owner_only
    def close(self) -> None:
        self.inside.set()
        self.may_leave.wait(10)


install_checks([Machine], lambda machine: machine.leader)


def test_a_mark_is_kept_for_readers() -> None:
    marks = [contract_of(getattr(Machine, name)) for name in ("lead", "ask", "count", "close", "__init__")]
    assert marks == ["leader", "any", "lock lock", "owner", None]


def test_only_the_leader_may_call_what_is_the_leaders() -> None:
    machine = Machine()
    assert machine.lead() == "led"  # no thread leads yet
    machine.leader = threading.get_ident()
    assert machine.lead() == "led"
    machine.leader += 1
    with pytest.raises(AssertionError, match=r"Machine\.lead was not called by the leading thread"):
        machine.lead()
    assert machine.ask() == "asked"


def test_a_lock_that_is_required_must_be_held() -> None:
    machine = Machine()
    with pytest.raises(AssertionError, match=r"Machine\.count was called without lock"):
        machine.count()
    with machine.lock:
        assert machine.count() == "counted"


def test_two_owners_at_once_are_noticed() -> None:
    machine = Machine()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(machine.close)
        assert machine.inside.wait(10)
        with pytest.raises(AssertionError, match=r"Machine\.close was called by two threads at once"):
            machine.close()
        machine.may_leave.set()
        first.result(10)
    machine.close()


@pytest.mark.parametrize("kind", list(shared_classes()), ids=lambda kind: kind.__name__)
def test_every_public_method_of_a_shared_class_declares_its_thread(kind: type) -> None:
    assert undeclared_methods(kind) == []
