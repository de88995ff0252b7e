from __future__ import annotations

import pytest

from dilithion_ws import CloseCode, Config, Limits, Session
from dilithion_ws.auth.audit_log import AuditLog
from dilithion_ws.auth.authenticator import Authenticator
from dilithion_ws.auth.credentials import Credentials
from dilithion_ws.auth.denial import Denial, DenialKind, NeedsPassword
from dilithion_ws.auth.passwords import hash_password
from dilithion_ws.auth.permissions import ROLES, UNDECLARED, WALLET_RIGHTS
from dilithion_ws.auth.users import User, UserDirectory

from ..support import Clock

READER = User("reader", "readonly", 7, hash_password("right", "node"))


class Desk:
    """An authenticator with one user, and a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.audit = AuditLog("", self.clock)
        config = Config(users_file="users.json", limits=Limits.from_names(login_failures=3))
        self.authenticator = Authenticator(config, UserDirectory([READER]), self.clock, self.audit)

    def session(self, host: str = "192.0.2.1") -> Session:
        session = Session(1, (host, 1))
        session.is_authorized, session.rights = False, 0
        return session


def kind_of(decision: object) -> DenialKind:
    assert isinstance(decision, Denial)
    return decision.kind


def test_a_password_is_verified_once_and_then_cached() -> None:
    desk, session = Desk(), Desk().session()
    credentials = Credentials("reader", "right")
    decision = desk.authenticator.check_credentials(session, credentials)
    assert decision == NeedsPassword("reader", "right")
    assert "right" not in repr(decision)
    assert desk.authenticator.verify_credentials(session, decision) is None  # type: ignore[arg-type]
    assert (session.user, session.rights, session.is_authorized) == ("reader", 7, True)
    again = desk.session()
    assert desk.authenticator.check_credentials(again, credentials) is None
    assert again.user == "reader"
    assert desk.audit.counts == {"login": 2}


def test_a_wrong_password_is_a_denial_and_locks_the_name_out_there() -> None:
    desk, session = Desk(), Desk().session()
    wrong = NeedsPassword("reader", "wrong")
    for guess in range(3):
        decision = desk.authenticator.verify_credentials(session, NeedsPassword("reader", f"guess{guess}"))
        assert kind_of(decision) is DenialKind.CREDENTIALS
    assert kind_of(desk.authenticator.verify_credentials(session, wrong)) is DenialKind.LOCKED_OUT
    assert kind_of(desk.authenticator.check_credentials(session, Credentials("reader", "x"))) is DenialKind.LOCKED_OUT
    elsewhere = desk.authenticator.check_credentials(desk.session("192.0.2.2"), Credentials("reader", "right"))
    assert isinstance(elsewhere, NeedsPassword)
    assert desk.authenticator.tracked_addresses == 1
    desk.clock.now += 10_000
    assert isinstance(desk.authenticator.check_credentials(session, Credentials("reader", "right")), NeedsPassword)


def lock_out(desk: Desk, session: Session) -> None:
    for guess in range(3):
        desk.authenticator.verify_credentials(session, NeedsPassword("reader", f"guess{guess}"))
    assert kind_of(desk.authenticator.check_credentials(session, Credentials("reader", "x"))) is DenialKind.LOCKED_OUT


def test_a_remembered_password_passes_a_lock_out() -> None:
    desk, session = Desk(), Desk().session()
    desk.authenticator.verify_credentials(desk.session(), NeedsPassword("reader", "right"))
    lock_out(desk, session)
    for _ in range(100):
        assert desk.authenticator.check_credentials(desk.session(), Credentials("reader", "right")) is None


def test_a_lock_out_is_no_way_to_guess_a_remembered_password() -> None:
    desk, session = Desk(), Desk().session()
    desk.authenticator.verify_credentials(desk.session(), NeedsPassword("reader", "right"))
    lock_out(desk, session)
    for guess in range(30):
        wrong = Credentials("reader", f"another{guess}")
        assert kind_of(desk.authenticator.check_credentials(session, wrong)) is DenialKind.LOCKED_OUT
    right = Credentials("reader", "right")
    assert kind_of(desk.authenticator.check_credentials(session, right)) is DenialKind.LOCKED_OUT, "the 31st guess"


def test_a_remembered_login_clears_no_failures() -> None:
    """Otherwise a program that polls would buy a guesser at its address new guesses with each of its requests."""
    desk = Desk()
    desk.authenticator.verify_credentials(desk.session(), NeedsPassword("reader", "right"))
    for guess in range(3):
        assert desk.authenticator.check_credentials(desk.session(), Credentials("reader", "right")) is None
        desk.authenticator.verify_credentials(desk.session(), NeedsPassword("reader", f"guess{guess}"))
    assert desk.audit.counts["locked out"] == 1


def test_another_user_of_the_address_is_not_locked_out() -> None:
    desk, session = Desk(), Desk().session()
    other = User("other", "readonly", 7, hash_password("right", "node"))
    desk.authenticator.replace_directory(UserDirectory([READER, other]))
    lock_out(desk, session)
    assert desk.authenticator.verify_credentials(session, NeedsPassword("other", "right")) is None


def test_authenticate_with_the_cookie_passes_a_lock_out() -> None:
    desk, session = Desk(), Desk().session()
    cookie = User("__cookie__", "admin", 7, hash_password("random", "node"), is_unguessable=True)
    desk.authenticator.replace_directory(UserDirectory([READER, cookie]))
    lock_out(desk, session)
    assert kind_of(desk.authenticator.log_in(session, "reader", "right")) is DenialKind.LOCKED_OUT
    assert desk.authenticator.log_in(session, "__cookie__", "random") is cookie


def test_the_cookie_passes_a_lock_out() -> None:
    desk, session = Desk(), Desk().session()
    cookie = User("__cookie__", "admin", 7, hash_password("random", "node"), is_unguessable=True)
    desk.authenticator.replace_directory(UserDirectory([READER, cookie]))
    lock_out(desk, session)
    decision = desk.authenticator.check_credentials(session, Credentials("__cookie__", "random"))
    assert isinstance(decision, NeedsPassword)
    assert desk.authenticator.verify_credentials(session, decision) is None
    assert session.user == "__cookie__"


def test_a_repeated_wrong_password_costs_no_hash_and_locks_nobody_out() -> None:
    desk, session = Desk(), Desk().session()
    wrong = Credentials("reader", "wrong")
    assert isinstance(desk.authenticator.check_credentials(session, wrong), NeedsPassword)
    desk.authenticator.verify_credentials(session, NeedsPassword(wrong.name, wrong.password))
    for _ in range(100):
        assert kind_of(desk.authenticator.check_credentials(session, wrong)) is DenialKind.CREDENTIALS
    assert isinstance(desk.authenticator.check_credentials(session, Credentials("reader", "right")), NeedsPassword)


def test_a_wrong_password_that_becomes_the_right_one_is_accepted() -> None:
    desk, session = Desk(), Desk().session()
    new = NeedsPassword("reader", "new")
    assert kind_of(desk.authenticator.verify_credentials(session, new)) is DenialKind.CREDENTIALS
    desk.authenticator.replace_directory(UserDirectory([User("reader", "readonly", 7, hash_password("new", "node"))]))
    assert desk.authenticator.verify_credentials(session, new) is None


def test_malformed_credentials_count_as_a_failure() -> None:
    desk = Desk()
    assert kind_of(desk.authenticator.check_credentials(desk.session(), None)) is DenialKind.CREDENTIALS
    assert desk.audit.counts["login failed"] == 1


def test_a_connection_with_too_many_failures_is_closed_after_the_answer() -> None:
    desk, session = Desk(), Desk().session()
    decisions = [desk.authenticator.log_in(session, "reader", "wrong") for _ in range(3)]
    assert [decision.close_after for decision in decisions[:2]] == [None, None]  # type: ignore[union-attr]
    last = decisions[2]
    assert isinstance(last, Denial)
    assert last.close_after is not None
    assert last.close_after.code == CloseCode.NOT_AUTHENTICATED


def test_logging_in_returns_the_user() -> None:
    desk, session = Desk(), Desk().session()
    assert desk.authenticator.log_in(session, "reader", "right") is READER
    assert desk.authenticator.login_priority(session) > desk.authenticator.login_priority(desk.session("192.0.2.9"))


def test_the_audit_log_names_the_user_who_was_removed(caplog: pytest.LogCaptureFixture) -> None:
    """Also if another one logs in on the connection between the decision and the line."""
    desk, session = Desk(), Desk().session()
    desk.authenticator.log_in(session, "reader", "right")
    desk.authenticator.replace_directory(UserDirectory())
    lock = desk.authenticator._identity_lock

    class Released:
        def __enter__(self) -> None:
            lock.acquire()

        def __exit__(self, *exc: object) -> None:
            lock.release()
            session.user = "another"

        def locked(self) -> bool:
            return lock.locked()

    desk.authenticator._identity_lock = Released()  # type: ignore[assignment]
    with caplog.at_level("INFO", "dilithion_ws.audit"):
        desk.authenticator.refresh_rights(session)
    assert '"event": "removed"' in caplog.text
    assert '"user": "reader"' in caplog.text.splitlines()[-1]


@pytest.mark.parametrize("role", ["wallet", "admin"])
def test_a_user_of_some_wallets_has_no_rights_over_others(role: str) -> None:
    desk = Desk()
    user = User("keeper", role, ROLES[role] | UNDECLARED, READER.password, wallets=frozenset({"a", ""}))
    desk.authenticator.replace_directory(UserDirectory([user]))
    for wallet, may in (("a", True), ("", True), ("b", False), (None, False)):
        session = desk.session()
        session.wallet = wallet
        desk.authenticator.log_in(session, "keeper", "right")
        assert bool(session.rights & WALLET_RIGHTS) is may
        assert bool(session.rights & UNDECLARED) is may
        assert session.rights & ROLES["readonly"] & ~WALLET_RIGHTS


def test_a_name_that_no_user_has_is_never_in_the_audit_log(caplog: pytest.LogCaptureFixture) -> None:
    """It may be a password that was typed into the wrong field."""
    desk, session = Desk(), Desk().session()
    with caplog.at_level("INFO", "dilithion_ws.audit"):
        desk.authenticator.log_in(session, "hunter2", "x")
    assert '"event": "login failed"' in caplog.text
    assert '"user": null' in caplog.text
    assert "hunter2" not in caplog.text


def test_sessions_get_the_rights_that_their_users_have_now() -> None:
    desk = Desk()
    session, other = desk.session(), desk.session()
    desk.authenticator.log_in(session, "reader", "right")
    desk.authenticator.replace_directory(UserDirectory([User("reader", "readonly", 1, READER.password)]))
    assert desk.authenticator.refresh_all([session, other]) == [session]
    assert session.rights == 1
    desk.authenticator.replace_directory(UserDirectory())
    desk.authenticator.refresh_all([session])
    assert (session.is_authorized, session.rights) == (False, 0)
    assert session.close_after == (CloseCode.NOT_AUTHENTICATED, "this user has been removed")
    session.close_after = None
    desk.authenticator.refresh_rights(session)
    assert session.close_after is None, "once is enough"
    desk.authenticator.refresh_rights(other)
    assert other.close_after is None
