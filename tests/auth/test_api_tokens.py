"""API tokens: how they are stored, what they are limited to, and when they log a client in."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import CloseStatus, Config, ConfigError, Limits, Session
from dilithion_ws.auth.api_tokens import ApiToken, TokenLimits, hash_token, make_token, parse_networks
from dilithion_ws.auth.audit_log import AuditLog
from dilithion_ws.auth.authenticator import Authenticator
from dilithion_ws.auth.credentials import TOKEN_NAME, Credentials
from dilithion_ws.auth.denial import Denial, DenialKind
from dilithion_ws.auth.passwords import hash_password
from dilithion_ws.auth.users import User, UserDirectory, parse_users, render_users

from ..support import Clock, wait_for

HASH = hash_token("dws_x").hex()
UNLIMITED = TokenLimits()


def users_file(**entry: Any) -> str:
    return json.dumps({"version": 1, "tokens": {"bot": {"token_hash": HASH, "role": "readonly", **entry}}})


def test_tokens_are_random_and_stored_as_a_hash() -> None:
    first, second = make_token(), make_token()
    assert first != second
    assert len(first) == len("dws_") + 43
    assert hash_token(first).hex() not in first


def test_what_is_written_is_read_again() -> None:
    text = users_file(methods=["getblock", "echo"], networks=["10.0.0.0/8", "::1"], expires="2027-01-31T00:00:00Z")
    file = parse_users(text, "test")
    assert parse_users(render_users(file), "again").tokens == file.tokens
    limits = file.tokens["bot"].limits
    assert limits == TokenLimits(
        frozenset({"getblock", "echo"}), parse_networks(["10.0.0.0/8", "::1/128"], ""), 1801353600.0
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"token_hash": "00"}, "64 hex digits"),
        ({"role": "nosuch"}, "known are admin, metrics, readonly, wallet"),
        ({"methods": "getblock"}, "methods must be a list of strings"),
        ({"networks": ["here"]}, "it takes addresses and networks"),
        ({"networks": []}, "leave it out to allow all"),
        ({"expires": "soon"}, "it takes a date such as 2027-01-31"),
        ({"expires": 5}, "must be a date"),
        ({"expires": "0001-01-01T00:00+14:00"}, "it takes a date"),
        ({"secret": "x"}, "unknown member 'secret'"),
    ],
)
def test_what_cannot_be_used_is_an_error(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_users(users_file(**entry), "test")


@pytest.mark.parametrize(
    ("networks", "host", "allowed"),
    [
        ([], "192.0.2.1", True),
        (["192.0.2.0/24"], "192.0.2.1", True),
        (["192.0.2.0/24"], "::ffff:192.0.2.1", True),
        (["192.0.2.0/24"], "127.0.0.1", False),
        (["2001:db8::/32"], "192.0.2.1", False),
    ],
)
def test_networks(networks: list[str], host: str, allowed: bool) -> None:
    assert TokenLimits(networks=parse_networks(networks, "")).allows_address(host) is allowed


class Desk:
    """An authenticator with one token, and two clocks."""

    def __init__(self, limits: TokenLimits = UNLIMITED) -> None:
        self.clock, self.unix_time = Clock(), Clock(1_800_000_000.0)
        self.audit = AuditLog("", self.clock)
        self.token = ApiToken("bot", "readonly", 7, hash_token("dws_x"), limits)
        config = Config(users_file="users.json", limits=Limits.from_names(login_failures=3))
        directory = UserDirectory([], [self.token])
        self.authenticator = Authenticator(config, directory, self.clock, self.audit, self.unix_time)

    def log_in(self, token: str = "dws_x", host: str = "192.0.2.1") -> Session | DenialKind:
        session = Session(1, (host, 1))
        session.is_authorized, session.rights = False, 0
        decision = self.authenticator.check_credentials(session, Credentials(TOKEN_NAME, token))
        if isinstance(decision, Denial):
            return decision.kind
        assert decision is None
        return session


def test_a_token_logs_in_at_once() -> None:
    session = Desk().log_in()
    assert isinstance(session, Session)
    assert (session.user, session.rights, session.is_authorized) == ("token:bot", 7, True)


def test_its_name_is_no_user_with_a_password() -> None:
    desk = Desk()
    assert isinstance(desk.authenticator.log_in(Session(1, ("192.0.2.1", 1)), "token:bot", "dws_x"), Denial)
    assert isinstance(desk.authenticator.log_in(Session(1, ("192.0.2.1", 1)), "bot", "dws_x"), Denial)


@pytest.mark.parametrize(
    "limits", [TokenLimits(expires=1_800_000_000.0), TokenLimits(networks=parse_networks(["10.0.0.0/8"], ""))]
)
def test_an_expired_token_or_one_from_elsewhere_is_refused(limits: TokenLimits) -> None:
    desk = Desk(limits)
    assert desk.log_in() is DenialKind.CREDENTIALS
    assert desk.audit.counts == {"login failed": 1}


def test_a_token_passes_a_lock_out_and_a_wrong_one_does_not() -> None:
    desk = Desk()
    for guess in range(3):
        assert desk.log_in(f"dws_{guess}") is DenialKind.CREDENTIALS
    assert desk.audit.counts["locked out"] == 1
    assert isinstance(desk.log_in(), Session)
    assert desk.log_in("dws_y") is DenialKind.CREDENTIALS


def test_the_same_wrong_token_counts_once() -> None:
    desk = Desk()
    for _ in range(10):
        assert desk.log_in("dws_y") is DenialKind.CREDENTIALS
    assert "locked out" not in desk.audit.counts


def test_a_token_that_expires_ends_its_session() -> None:
    desk = Desk(TokenLimits(expires=1_800_000_060.0))
    session = desk.log_in()
    assert isinstance(session, Session)
    assert desk.authenticator.check_expiry(session) == 60.0
    desk.unix_time.now += 60
    assert desk.authenticator.check_expiry(session) == CloseStatus(4401, "this token has expired")
    assert Desk().authenticator.check_expiry(Session(1, ("192.0.2.1", 1))) == math.inf


def test_a_revoked_token_and_one_that_was_made_anew_end_sessions() -> None:
    for tokens in ([], [ApiToken("bot", "readonly", 7, hash_token("dws_new"))]):
        desk = Desk()
        session = desk.log_in()
        assert isinstance(session, Session)
        desk.authenticator.replace_directory(UserDirectory([], tokens))
        desk.authenticator.refresh_all([session])
        assert session.close_after == CloseStatus(4401, "this token has been revoked")
        assert not session.is_authorized


def test_a_changed_token_changes_its_sessions() -> None:
    desk = Desk()
    session = desk.log_in()
    assert isinstance(session, Session)
    changed = ApiToken("bot", "x", 1, desk.token.digest, TokenLimits(frozenset({"echo"})))
    desk.authenticator.replace_directory(UserDirectory([], [changed]))
    desk.authenticator.refresh_all([session])
    assert (session.rights, session.token, session.is_authorized) == (1, changed, True)


def test_a_user_cannot_have_the_name_that_stands_for_tokens(tmp_path: Path) -> None:
    entry = {"password_hash": "00" * 32, "salt": "00" * 8, "role": "admin"}
    with pytest.raises(ConfigError, match="user name"):
        parse_users(json.dumps({"version": 1, "users": {TOKEN_NAME: entry}}), "test")


def test_a_reload_during_a_login_leaves_no_rights_of_the_token_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reload has looked at the token already when the client logs in as another user."""
    desk = Desk()
    reader = User("reader", "readonly", 1, hash_password("right", "node"))
    desk.authenticator.replace_directory(UserDirectory([reader], [desk.token]))
    session = desk.log_in()
    assert isinstance(session, Session)
    looking, go_on = threading.Event(), threading.Event()
    renew = UserDirectory.renew

    def slow_renew(self: UserDirectory, token: ApiToken) -> ApiToken | None:
        found = renew(self, token)
        looking.set()
        go_on.wait(20)
        return found

    monkeypatch.setattr(UserDirectory, "renew", slow_renew)
    reload = threading.Thread(target=desk.authenticator.refresh_all, args=([session],))
    login = threading.Thread(target=desk.authenticator.log_in, args=(session, "reader", "right"))
    reload.start()
    assert looking.wait(20)
    login.start()
    wait_for(lambda: desk.audit.counts["login"] == 2)  # from here on it waits for the reload, or must not
    go_on.set()
    reload.join(20)
    login.join(20)
    assert (session.user, session.token, session.rights) == ("reader", None, 1)
