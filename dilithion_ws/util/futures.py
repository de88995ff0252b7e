"""Futures that convert the result of other futures."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeVar

__all__ = ["Future", "convert_future", "settle_future"]

R = TypeVar("R")


def convert_future(source: Future[Any], convert: Callable[[Any], R]) -> Future[R]:
    """Return a future of what another future's outcome converts to.

    Cancelling the returned future cancels the source. `convert` runs in the thread that completes the source.

    Args:
        source: a future.
        convert: gets the result, or the exception that the source failed with. It must not raise.
    """
    converted: Future[R] = Future()

    def complete(done: Future[Any]) -> None:
        if converted.cancelled():
            return
        try:
            outcome = done.result()
        except BaseException as error:  # also that the source was cancelled
            outcome = error
        value = convert(outcome)
        try:
            converted.set_result(value)
        except InvalidStateError:
            pass  # it was cancelled while the result was being converted

    source.add_done_callback(complete)
    converted.add_done_callback(lambda done: source.cancel() if done.cancelled() else None)
    return converted


def settle_future(future: Future[R], outcome: R | BaseException) -> None:
    """Give a future its result, or its exception. Do nothing if it was cancelled."""
    try:
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
    except InvalidStateError:
        pass
