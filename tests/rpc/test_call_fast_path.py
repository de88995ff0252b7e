"""The shortcut allows only what the server's guard allows, without charging the client."""

from __future__ import annotations

import itertools

import pytest

from dilithion_ws import Config, Limits, RpcTable, Session
from dilithion_ws.auth.api_tokens import ApiToken, TokenLimits
from dilithion_ws.auth.audit_log import AuditLog
from dilithion_ws.auth.authenticator import Authenticator
from dilithion_ws.auth.users import UserDirectory
from dilithion_ws.rpc.call_fast_path import is_plainly_allowed
from dilithion_ws.rpc.dispatcher import Dispatcher
from dilithion_ws.rpc.executor import Executor
from dilithion_ws.service.access_control import AccessControl

from ..support import Clock

PERMISSIONS = ("READ_BLOCKCHAIN", "READ_WALLET", "WRITE_WALLET", "ADMIN_SERVER", None)


@pytest.fixture
def access() -> AccessControl:
    clock, audit = Clock(), AuditLog()
    config = Config(users_file="users.json")
    return AccessControl(config, Authenticator(config, UserDirectory(), clock, audit), clock, audit)


@pytest.mark.parametrize("permission", PERMISSIONS)
def test_it_agrees_with_the_guard(access: AccessControl, permission: str | None) -> None:
    rpc = RpcTable()
    rpc.register("m", lambda: 1, permission=permission)
    method = rpc.methods()["m"]
    for rights, is_authorized, is_rate_limited in itertools.product(
        (0, 1, 3, 7, 0x3F, -1), (True, False), (True, False)
    ):
        session = Session(1, ("192.0.2.1", 1))
        session.rights, session.is_authorized, session.is_rate_limited = rights, is_authorized, is_rate_limited
        if is_plainly_allowed(session, method):
            assert access.check_call(session, "m", method) is None
        elif not is_rate_limited and method.required_rights:
            assert access.check_call(session, "m", method) is not None


def test_a_token_is_always_decided_by_the_guard(access: AccessControl) -> None:
    rpc = RpcTable()
    rpc.register("m", lambda: 1, permission="READ_WALLET")
    session = Session(1, ("192.0.2.1", 1))
    session.token = ApiToken("bot", "admin", -1, bytes(32), TokenLimits(frozenset({"other"})))
    assert not is_plainly_allowed(session, rpc.methods()["m"])
    assert access.check_call(session, "m", rpc.methods()["m"]) is not None


def test_answers_are_the_same_with_and_without_it(access: AccessControl, monkeypatch: pytest.MonkeyPatch) -> None:
    rpc = RpcTable()
    rpc.register("m", lambda: 1, permission="READ_WALLET")

    def answers() -> list[object]:
        found: list[object] = []
        for rights in (0, 1, 3, 0x3F):
            session = Session(1, ("127.0.0.1", 1))
            session.rights = rights
            dispatcher = Dispatcher(rpc, Executor(Limits(), Clock()), access)
            outcome = dispatcher.receive(b'{"jsonrpc":"2.0","method":"m","id":1}', session)
            found.append(outcome if isinstance(outcome, bytes) or outcome is None else outcome.run())
        return found

    quick = answers()
    monkeypatch.setattr("dilithion_ws.rpc.dispatcher.is_plainly_allowed", lambda session, method: False)
    assert answers() == quick
    assert len(set(map(str, quick))) > 1
