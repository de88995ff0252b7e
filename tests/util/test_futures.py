from __future__ import annotations

from typing import Any

import pytest

from dilithion_ws.util.futures import Future, convert_future, settle_future


def shown(outcome: Any) -> str:
    return f"{type(outcome).__name__} {outcome}"


def test_a_result_is_converted() -> None:
    source: Future[int] = Future()
    converted = convert_future(source, shown)
    source.set_result(5)
    assert converted.result(1) == "int 5"


def test_an_exception_is_converted() -> None:
    source: Future[int] = Future()
    converted = convert_future(source, shown)
    source.set_exception(ValueError("no"))
    assert converted.result(1) == "ValueError no"


def test_a_source_that_is_done_is_converted_at_once() -> None:
    source: Future[int] = Future()
    source.set_result(1)
    assert convert_future(source, shown).done()


def test_a_cancelled_source_is_an_outcome_too() -> None:
    source: Future[int] = Future()
    converted = convert_future(source, shown)
    source.cancel()
    source.set_running_or_notify_cancel()
    assert converted.result(1).startswith("CancelledError")


def test_cancelling_cancels_the_source() -> None:
    source: Future[int] = Future()
    converted = convert_future(source, shown)
    assert converted.cancel()
    assert source.cancelled()


def test_a_source_that_runs_already_may_end_after_the_cancelling() -> None:
    source: Future[int] = Future()
    source.set_running_or_notify_cancel()
    converted = convert_future(source, shown)
    assert converted.cancel()
    source.set_result(1)
    assert converted.cancelled()


def test_cancelling_during_the_conversion_wins() -> None:
    source: Future[int] = Future()

    def convert(outcome: Any) -> str:
        converted.cancel()
        return "late"

    converted = convert_future(source, convert)
    source.set_result(1)
    assert converted.cancelled()


def test_settling_a_future_does_nothing_if_it_was_cancelled() -> None:
    done: Future[int] = Future()
    settle_future(done, 5)
    assert done.result() == 5
    failed: Future[int] = Future()
    settle_future(failed, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        failed.result()
    cancelled: Future[int] = Future()
    cancelled.cancel()
    settle_future(cancelled, 5)
    assert cancelled.cancelled()
