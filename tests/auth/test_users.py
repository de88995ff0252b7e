from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws import ConfigError
from dilithion_ws.auth.credentials import BEARER_PREFIX, TOKEN_NAME, Credentials, from_authorization, from_subprotocols
from dilithion_ws.auth.password_cache import PasswordCache
from dilithion_ws.auth.passwords import NODE_SCHEME, SCHEMES, StoredPassword, hash_password
from dilithion_ws.auth.users import User, UserDirectory, UsersFile, check_name, parse_users, render_users

from ..support import Clock

CHEAP = "scrypt:2:1:1"


def user(name: str, password: str = "right", scheme: str = CHEAP) -> User:
    return User(name, "wallet", 0x3F, hash_password(password, scheme))


# Passwords


@pytest.mark.parametrize("scheme", [*SCHEMES, NODE_SCHEME, CHEAP])
def test_a_password_matches_itself_only(scheme: str) -> None:
    stored = hash_password("gr\u00fcn \ud83d\ude00", scheme)
    assert stored.matches("gr\u00fcn \ud83d\ude00")
    for wrong in ("", "gr\u00fcn", "gr\u00fcn \ud83d\ude01", "\ud800"):
        assert not stored.matches(wrong)
    assert hash_password("x", scheme).salt != hash_password("x", scheme).salt


def test_both_older_forms_of_the_node_are_understood() -> None:
    salt = bytes(range(32))
    by_node = hmac.new(salt, b"secret", hashlib.sha3_256).digest()
    by_script = hashlib.sha256(salt + b"secret").digest()
    for digest in (by_node, by_script):
        stored = StoredPassword(NODE_SCHEME, salt, digest)
        assert stored.matches("secret")
        assert not stored.matches("Secret")


def test_the_nodes_pbkdf2_form() -> None:
    salt = bytes(32)
    digest = hashlib.pbkdf2_hmac("sha3_256", b"secret", salt, 100_000, 32)
    assert StoredPassword("pbkdf2-sha3-256:100000", salt, digest).matches("secret")


@pytest.mark.parametrize(
    "scheme",
    [
        *("", "md5", "scrypt", "scrypt:3:1:1", "scrypt:16384:8", "scrypt:1073741824:8:1", "scrypt:-2:8:1"),
        *("scrypt:2:1:99", "pbkdf2-sha3-256:0", "pbkdf2-sha3-256:99999999", "node:1", "scrypt:2:1:1:1"),
        "scrypt:\u0662:1:1",
    ],
)
def test_schemes_out_of_bounds_are_refused(scheme: str) -> None:
    with pytest.raises(ConfigError, match="unknown or out of bounds"):
        StoredPassword(scheme, b"12345678", bytes(32))


def test_nothing_shows_a_password_or_its_hash() -> None:
    alice = user("alice", "hush-hush")
    shown = (
        repr(alice) + repr(Credentials("alice", "hush-hush")) + str(alice.password) + repr(UsersFile({"a": alice}, {}))
    )
    assert "hush" not in shown
    assert alice.password.digest.hex() not in shown


# The directory


def test_only_the_right_password_of_a_known_user_is_right() -> None:
    directory = UserDirectory([user("alice", "a"), user("bob", "b", NODE_SCHEME)])
    assert directory.check("alice", "a") is directory.get("alice")
    assert directory.check("bob", "b") is directory.get("bob")
    for name, password in (("alice", "b"), ("bob", "a"), ("carol", "a"), ("", ""), ("carol", ""), ("alice", "")):
        assert directory.check(name, password) is None
    assert UserDirectory().check("alice", "a") is None


def test_a_check_computes_the_same_hashes_for_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """So its duration does not show whether a user exists, or which scheme it has."""
    directory = UserDirectory([user("alice", "a", "scrypt:1024:8:1"), user("bob", "b", NODE_SCHEME)])
    computed: list[str] = []
    original = StoredPassword.matches

    def matches(stored: StoredPassword, password: str) -> bool:
        computed.append(stored.scheme)
        return original(stored, password)

    monkeypatch.setattr(StoredPassword, "matches", matches)
    for name in ("alice", "bob", "carol"):
        computed.clear()
        assert directory.check(name, "wrong") is None
        assert sorted(computed) == [NODE_SCHEME, "scrypt:1024:8:1"], name


def test_verified_credentials_are_cached_for_a_while_and_for_this_hash_only() -> None:
    clock = Clock()
    cache = PasswordCache(clock, 60, 2)
    alice = user("alice")
    directory, credentials = UserDirectory([alice]), Credentials("alice", "right")
    assert cache.find(credentials, directory) is None
    cache.add(credentials, alice)
    assert cache.find(credentials, directory) is alice
    assert cache.find(Credentials("alice", "wrong"), directory) is None
    assert cache.find(credentials, UserDirectory([user("alice")])) is None, "the password was set again"
    assert cache.find(credentials, UserDirectory()) is None
    clock.now += 61
    assert cache.find(credentials, directory) is None
    for name in "abcd":
        cache.add(Credentials(name, "x"), alice)
    assert len(cache) == 2
    assert b"right" not in b"".join(cache._valid_until)


# The file


def entry(**changes: Any) -> dict[str, Any]:
    return {"password_hash": "00" * 32, "salt": "11" * 32, "role": "wallet", **changes}


def test_the_documented_file_is_read() -> None:
    text = json.dumps(
        {
            "version": 1,
            "users": {"alice": entry(), "bob": entry(role="auditor", scheme=CHEAP), "carol": entry(role="half")},
            "roles": {"auditor": ["READ_BLOCKCHAIN", "READ_WALLET"], "half": 5, "none": []},
        }
    )
    file = parse_users(text, "users.json")
    assert {name: (found.rights, found.password.scheme) for name, found in file.users.items()} == {
        "alice": (0x3F, "node"),
        "bob": (3, CHEAP),
        "carol": (5, "node"),
    }
    assert parse_users(render_users(file), "again") == file


def test_a_file_as_the_node_s_guide_generator_and_example_write_it_is_read_and_keeps_its_remarks() -> None:
    text = json.dumps(
        {
            "version": 1,
            "_comment": "of the operator",
            "description": "RPC users",
            "users": {"_comment": "add more here", "bot": entry(comment="payments", role="payer", _made="by hand")},
            "roles": {
                "_comment": "bits of the node",
                "payer": {"permissions": "0x0013", "description": "pays", "allowed_methods": ["sendtoaddress"]},
                "readonly": {"permissions": 5, "_note": "stricter"},
            },
        }
    )
    file = parse_users(text, "users.json")
    assert {name: user.rights for name, user in file.users.items()} == {"bot": 0x13}
    assert file.roles == {"payer": 0x13, "readonly": 5}
    rendered = json.loads(render_users(file))
    assert (rendered["_comment"], rendered["description"]) == ("of the operator", "RPC users")
    assert (rendered["users"]["bot"]["comment"], rendered["users"]["bot"]["_made"]) == ("payments", "by hand")
    assert parse_users(render_users(file), "again") == file


def test_wallets_of_users_and_tokens_are_kept() -> None:
    token = {"token_hash": "00" * 32, "role": "wallet", "wallets": ["", "b"]}
    data = {"version": 1, "users": {"alice": entry(wallets=["b", "a"])}, "tokens": {"bot": token}}
    file = parse_users(json.dumps(data), "users.json")
    assert file.users["alice"].wallets == frozenset({"a", "b"})
    assert file.tokens["bot"].wallets == frozenset({"", "b"})
    assert parse_users(render_users(file), "again") == file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps({"version": 1, "users": {"a": entry(wallets="x")}}), "wallets must be a list of strings"),
        (json.dumps({"version": 1, "roles": {"a": {"permissions": "0xZZ"}}}), "or as 0x003F"),
        (json.dumps({"version": 1, "roles": {"a": {"rights": 1}}}), "unknown member 'rights'; accepted is permissions"),
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", '"version": 1'),
        ('{"version": 2}', '"version": 1'),
        ('{"version": true}', '"version": 1'),
        ('{"version": 1, "user": {}}', "unknown member 'user'"),
        ('{"version": 1, "users": []}', "users must be an object"),
        ('{"version": 1, "users": {"a": 5}}', "user 'a' must be an object"),
        ('{"version": 1, "users": {"a": {}, "a": {}}}', "occurs twice"),
        (json.dumps({"version": 1, "users": {"a": entry(role="king")}}), "role 'king'; known are admin"),
        (json.dumps({"version": 1, "users": {"a": entry(role=["x"])}}), "has the role"),
        (json.dumps({"version": 1, "users": {"a:b": entry()}}), "no colon"),
        (json.dumps({"version": 1, "users": {"": entry()}}), "1 to 64 characters"),
        (json.dumps({"version": 1, "users": {"a": entry(salt="xyz")}}), "both hex"),
        (json.dumps({"version": 1, "users": {"a": entry(salt=5)}}), "both hex"),
        (json.dumps({"version": 1, "users": {"a": entry(salt="11")}}), "a salt of 8 to 64"),
        (json.dumps({"version": 1, "users": {"a": entry(scheme="md5")}}), "out of bounds"),
        (json.dumps({"version": 1, "users": {"a": entry(scheme=5)}}), "a scheme like"),
        (json.dumps({"version": 1, "users": {"a": entry(password="x")}}), "unknown member 'password'"),
        (json.dumps({"version": 1, "roles": {"r": ["FLY"]}}), "not a permission"),
        (json.dumps({"version": 1, "roles": {"r": "READ"}}), "must be a list"),
        (json.dumps({"version": 1, "roles": {"r": -1}}), "must be a list"),
        ('{"version": 1, "users": ' + "[" * 100_000, "not JSON"),
    ],
)
def test_bad_files_are_one_clear_error(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_users(text, "users.json")
    assert words in str(caught.value)
    assert str(caught.value).startswith("users.json: ")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.text(max_size=60)
    | st.dictionaries(st.sampled_from(["version", "users", "roles"]), json_values).map(
        lambda data: json.dumps({"version": 1, **data})
    )
    | st.dictionaries(st.sampled_from(["password_hash", "salt", "role", "scheme"]), json_values).map(
        lambda data: json.dumps({"version": 1, "users": {"a": entry(**data)}})
    )
)
def test_fuzzed_users_files_are_an_error_or_users(text: str) -> None:
    try:
        file = parse_users(text, "users.json")
    except ConfigError:
        return
    assert parse_users(render_users(file), "again").users.keys() == file.users.keys()


# Credentials


def test_basic_credentials() -> None:
    assert from_authorization("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==") == ("Aladdin", "open sesame")
    assert from_authorization("basic   YTpiOmM=") == ("a", "b:c")
    assert from_authorization("Basic YTo=") == ("a", "")
    for bad in (
        "",
        "Basic",
        "Basic !!!",
        "Basic YWJj",
        "Digest YTpi",
        "Bearer ",
        "Basic /w==",
        "Basic " + "QUFB" * 500,
    ):
        assert from_authorization(bad) is None


def test_a_token_is_the_password_of_a_name_of_its_own() -> None:
    assert from_authorization("Bearer dws_x") == (TOKEN_NAME, "dws_x")
    assert from_subprotocols([BEARER_PREFIX + "ZHdzX3g"]) == (TOKEN_NAME, "dws_x")


def test_bearer_credentials() -> None:
    assert from_subprotocols(["dilithion.v1", BEARER_PREFIX + "YTpi"]) == ("a", "b")
    assert from_subprotocols([BEARER_PREFIX + "w7w6w58_Pg"]) == ("\u00fc", "\u00df?>")
    for bad in ([], ["dilithion.v1"], [BEARER_PREFIX], [BEARER_PREFIX + "YTpi"] * 2, [BEARER_PREFIX + "+/=="]):
        assert from_subprotocols(bad) is None


@given(st.text(max_size=50))
def test_whatever_a_client_sends_as_credentials_has_an_answer(text: str) -> None:
    for found in (
        from_authorization(text),
        from_authorization("Basic " + text),
        from_subprotocols([BEARER_PREFIX + text]),
    ):
        assert found is None or isinstance(found.name + found.password, str)


# Small things that a review found


def test_bits_without_a_name_survive_an_edit_of_the_file() -> None:
    text = '{"version": 1, "users": {}, "roles": {"odd": 4096, "some": ["READ_WALLET"], "all": 4294967295}}'
    again = parse_users(render_users(parse_users(text, "x")), "x")
    assert again.roles == {"odd": 4096, "some": 2, "all": 0xFFFFFFFF}


def test_scrypt_parameters_that_openssl_refuses_are_refused_first() -> None:
    for scheme in ("scrypt:65536:1:1", "scrypt:2:131072:16", "scrypt:2:524288:1"):
        with pytest.raises(ConfigError, match="out of bounds"):
            hash_password("x", scheme)


def test_a_name_that_cannot_be_written_is_no_name() -> None:
    with pytest.raises(ConfigError, match="user name"):
        check_name("a\ud800b", "x")


def test_a_login_does_the_same_work_for_unknown_names(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PasswordCache(Clock(), 10, 10)
    user = User("bob", "admin", 1, hash_password("pw", "node"))
    directory = UserDirectory([user])
    names: list[str] = []
    original = PasswordCache.fingerprint

    def fingerprint(self: PasswordCache, credentials: Credentials, user: User | None) -> bytes:
        names.append(credentials.name)
        return original(self, credentials, user)

    monkeypatch.setattr(PasswordCache, "fingerprint", fingerprint)
    assert cache.find(Credentials("bob", "pw"), directory) is None
    assert cache.find(Credentials("eve", "pw"), directory) is None
    cache.add(Credentials("bob", "pw"), user)
    assert cache.find(Credentials("bob", "pw"), directory) is user
    assert names == ["bob", "eve", "bob", "bob"]
