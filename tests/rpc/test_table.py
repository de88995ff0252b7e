from __future__ import annotations

import threading
from typing import Any

import pytest

from dilithion_ws import RegistrationError, RpcTable
from dilithion_ws.rpc.method import Method, MethodOptions
from dilithion_ws.util.enums import Speed


def test_the_decorator_registers_under_the_functions_name() -> None:
    rpc = RpcTable()

    @rpc.method
    def getblockcount() -> int:
        """Get the height.

        More about it.
        """
        return 1

    method = rpc.methods()["getblockcount"]
    assert method.function is getblockcount
    assert getblockcount() == 1
    assert method.summary == "Get the height."
    assert method.permission is None


def test_the_decorator_takes_what_register_takes() -> None:
    rpc = RpcTable()

    @rpc.method(name="help", permission="READ_BLOCKCHAIN", blocking=True, summary="Helps")
    def help_() -> None: ...

    method = rpc.methods()["help"]
    assert (method.permission, method.blocking, method.summary) == ("READ_BLOCKCHAIN", True, "Helps")
    assert method.speed == Speed.SLOW
    assert repr(method) == "<Method help()>"


def test_names_are_taken_once_and_free_after_unregister() -> None:
    rpc = RpcTable()
    rpc.register("a", lambda: 1)
    with pytest.raises(RegistrationError, match="registered already"):
        rpc.register("a", lambda: 2)
    before = rpc.methods()
    rpc.unregister("a")
    rpc.register("a", lambda: 3)
    assert before["a"].function() == 1
    assert rpc.methods()["a"].function() == 3
    with pytest.raises(KeyError):
        rpc.unregister("b")
    assert rpc.get("b") is None


@pytest.mark.parametrize("name", ["", "rpc.discover", "a b", "x" * 65, "é", 5])
def test_malformed_names_are_refused(name: Any) -> None:
    with pytest.raises(RegistrationError, match="not a method name"):
        RpcTable().register(name, lambda: None)


async def coroutine() -> None: ...


def with_stars(*args: int) -> None: ...


def with_double_stars(**options: int) -> None: ...


def with_socket(value: threading.Thread) -> None: ...


def with_unknown(value: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("text", "not callable"),
        (coroutine, "coroutine"),
        (with_stars, "can't be bound"),
        (with_double_stars, "can't be bound"),
        (with_unknown, "can't be read"),
    ],
)
def test_functions_that_cannot_be_called_are_refused(function: Any, reason: str) -> None:
    with pytest.raises(RegistrationError, match=reason):
        RpcTable().register("name", function)


def test_registration_while_serving_never_shows_a_half_made_table() -> None:
    rpc = RpcTable()
    rpc.register("stays", lambda: 1)
    done = threading.Event()
    seen: list[bool] = []

    def read() -> None:
        while not done.is_set():
            seen.append(rpc.get("stays") is not None and "stays" in rpc.methods())

    def write(name: str) -> None:
        for _ in range(300):
            rpc.register(name, lambda: 1)
            rpc.unregister(name)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(f"m{at}",)) for at in range(4)]
    for thread in [reader, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert seen
    assert all(seen)
    assert list(rpc.methods()) == ["stays"]


def speeds(blocking: bool | None, *durations: float) -> list[Speed]:
    method = Method("m", lambda: None, MethodOptions(blocking=blocking))
    result = [method.speed]
    for seconds in durations:
        method.record_duration(seconds, 0.002)
        result.append(method.speed)
    return result


def test_the_pace_follows_what_was_measured() -> None:
    assert speeds(None, 0.0001) == [Speed.UNKNOWN, Speed.MEASURED_FAST]
    assert speeds(None, 0.02) == [Speed.UNKNOWN, Speed.SLOW]
    assert speeds(None, 0.0001, 0.005, 0.0001)[-1] == Speed.MEASURED_FAST, "one hiccup makes no slow method"
    assert speeds(None, *[0.005] * 8)[-1] == Speed.SLOW
    assert speeds(None, 0.02, *[0.0001] * 30)[-1] == Speed.MEASURED_FAST, "a method may become fast again"


def after_stalls(fast_calls: int, stalls: int, pause: int, blocking: bool | None = None) -> Speed:
    """Return the speed of a method that was fast for some calls, and then blocked now and then for 50 ms."""
    method = Method("m", lambda: None, MethodOptions(blocking=blocking))
    for _ in range(fast_calls):
        method.record_duration(0.00005, 0.002)
    for _ in range(stalls):
        method.record_stall(0.002)
        method.record_duration(0.05, 0.002)
        for _ in range(pause):
            method.record_duration(0.00005, 0.002)
    return method.speed


def test_one_hiccup_makes_no_slow_method() -> None:
    assert after_stalls(1000, 1, 0) == Speed.MEASURED_FAST
    assert after_stalls(1000, 5, 30) == Speed.MEASURED_FAST, "a garbage collection now and then"
    assert after_stalls(1000, 1, 0, blocking=False) == Speed.MEASURED_FAST, "the declaration was wrong"
    assert after_stalls(1000, 2, 0) == Speed.SLOW
    assert after_stalls(1000, 3, 3) == Speed.SLOW
    assert after_stalls(0, 1, 0) == Speed.SLOW, "nothing is known of it"
    assert after_stalls(1000, 2, 30) == Speed.MEASURED_FAST


def test_a_declared_pace_stays() -> None:
    assert set(speeds(True, 0.0, 0.0)) == {Speed.SLOW}
    assert set(speeds(False, 1.0, 1.0)) == {Speed.DECLARED_FAST}
    method = Method("m", lambda: None, MethodOptions(blocking=False))
    method.record_stall(0.002)
    assert method.speed == Speed.SLOW, "a declaration does not outlive a stall"
    method = Method("m", lambda: None, MethodOptions(blocking=None))
    method.record_stall(0.002)
    assert method.speed == Speed.SLOW


@pytest.mark.parametrize("name", ["subscribe", "unsubscribe", "subscriptions", "topics", "authenticate"])
def test_methods_of_the_server_are_not_registered_in_vain(name: str) -> None:
    with pytest.raises(RegistrationError, match="is a method of the server"):
        RpcTable().register(name, lambda: None)


def test_a_permission_that_does_not_exist_is_noticed_at_once() -> None:
    with pytest.raises(RegistrationError, match="READ_BLOCKS"):
        RpcTable().register("getblocks", lambda: None, permission="READ_BLOCKS")
