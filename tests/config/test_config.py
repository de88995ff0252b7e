"""The configuration file, the environment, options, and which of them counts."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws import Config, ConfigError, Limits
from dilithion_ws.config.conf_file import parse_file
from dilithion_ws.config.config import SETTINGS, TABLE, load_config
from dilithion_ws.config.exposure import Reach, check_exposure, exposure_of
from dilithion_ws.config.reference import example_file, json_schema, shown_value


def values(text: str) -> dict[str, str]:
    return {key: value for key, (value, _) in parse_file(text, "dilithion.conf", SETTINGS, TABLE.prefix).items()}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("rpcuser=alice", "alice"),
        ("  RPCUser =  alice  ", "alice"),
        ("rpcuser=alice # the boss", "alice"),
        ("rpcuser=alice;the boss", "alice"),
        ('rpcuser="alice"', "alice"),
        ('rpcuser="a#b;c"', "a#b;c"),
        ('rpcuser=" spaced "  # why not', " spaced "),
        ('rpcuser=""', ""),
        ("rpcuser=", ""),
        ("rpcuser=a=b", "a=b"),
        ('rpcuser=a"b', 'a"b'),
    ],
)
def test_lines_are_read_as_the_node_reads_them(line: str, value: str) -> None:
    assert values(line) == {"rpcuser": value}


def test_sections_comments_repeats_and_foreign_keys() -> None:
    text = """
# a comment
; another
[main]
rpcport=8332
connect=1.2.3.4
rpcuser=first
not a line of ours
[test]
rpcuser=last
"""
    assert values(text) == {"rpcuser": "last"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\nrpcwebsocketprt=1", "line 2: unknown key rpcwebsocketprt; did you mean rpcwebsocketport?"),
        ("rpcwebsocketxyzzy=1", "line 1: unknown key rpcwebsocketxyzzy"),
        ("rpcwebsocketport=abc", "line 1: rpcwebsocketport is 'abc'; it takes a whole number"),
        ("rpcwebsocketport=70000", "line 1: port (rpcwebsocketport) is 70000; it takes a whole number from 0 to 65535"),
        ("rpcwebsocketworkers=1", "line 1: workers (rpcwebsocketworkers) is 1; it takes a whole number of threads"),
        ("rpcwebsocketcalltimeout=soon", "it takes a number"),
        ("rpcwebsocketcalltimeout=nan", "rpcwebsocketcalltimeout"),
        ("rpcwebsocketinsecure=perhaps", "it takes 1 or 0"),
        ("rpcallowip=10.0.0.0/8, nowhere", "rpcallowip) has 'nowhere'"),
        ("rpcwebsocketmethodrates=x", "NAME=CAPACITY/REFILL"),
        ('rpcuser="open', "line 1: the value has an opening quote and no closing one"),
        ('rpcuser="a" b', "text behind the closing quote"),
        ("rpcwebsocketport 5", "has no value; expected key=value"),
        ("rpcuser=alice", "set both, or neither"),
        ("rpcsslcertificatechainfile=x", "rpcsslprivatekeyfile belong together"),
        ("rpcsslcapath=x", "rpcsslcapath needs"),
    ],
)
def test_errors_name_file_line_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "dilithion.conf"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), {})
    assert words in str(caught.value)
    if "line" in words:
        assert str(path) in str(caught.value)


def test_secrets_are_in_no_error(tmp_path: Path) -> None:
    path = tmp_path / "dilithion.conf"
    path.write_text("rpcpassword hush-hush\n")
    with pytest.raises(ConfigError, match="line 1: 'rpcpassword' has no value") as caught:
        load_config(str(path), {})
    assert "hush" not in str(caught.value)
    path.write_text("rpcpassword=hush-hush\n")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), {})
    assert "hush" not in str(caught.value)
    assert "hush" not in repr(Config(user="alice", password="hush-hush"))


def test_options_go_before_environment_before_file_before_defaults(tmp_path: Path) -> None:
    path = tmp_path / "dilithion.conf"
    path.write_text("rpcwebsocketport=1\nrpcwebsocketqueue=1\nrpcwebsocketworkers=5\n")
    environment = {"DILITHION_RPCWEBSOCKETPORT": "2", "DILITHION_RPCWEBSOCKETQUEUE": "2", "DILITHION_DATADIR": "x"}
    loaded = load_config(str(path), environment, {"rpcwebsocketport": "3"})
    calls = loaded.config.limits.calls
    assert (loaded.config.port, calls.queue, calls.workers, calls.in_flight) == (3, 2, 5, 20)
    assert loaded.sources["rpcwebsocketport"] == "option --port"
    assert loaded.sources["rpcwebsocketqueue"] == "environment DILITHION_RPCWEBSOCKETQUEUE"
    assert loaded.sources["rpcwebsocketworkers"] == f"file {path} line 3"
    assert loaded.sources["rpcwebsocketbatchsize"] == "default"
    with pytest.raises(ConfigError, match="environment DILITHION_RPCWEBSOCKETPROT: unknown key"):
        load_config(None, {"DILITHION_RPCWEBSOCKETPROT": "1"})


def test_a_missing_file_means_defaults_and_an_unreadable_one_is_an_error(tmp_path: Path) -> None:
    assert Config.load(str(tmp_path / "none"), {}) == Config()
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load_config(str(tmp_path), {})
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(str(tmp_path / "binary"), {})


def test_there_is_a_key_for_every_limit_and_an_option_for_every_key() -> None:
    groups = [field.type for field in msgspec.structs.fields(Limits)]
    limits = [name for group in groups for name in group.__struct_fields__]
    assert [setting.name for setting in SETTINGS.values() if setting.group] == limits
    fields = set(Config.__struct_fields__) - {"limits"}
    assert {setting.name for setting in SETTINGS.values() if not setting.group} == fields
    options = [setting.option for setting in SETTINGS.values()]
    assert len(set(options)) == len(options)
    assert all(setting.key == setting.key.lower() and setting.description for setting in SETTINGS.values())


def test_the_example_is_a_valid_file_with_every_default() -> None:
    text = example_file()
    assert values(text) == {}
    uncommented = text.replace("\n#rpc", "\nrpc")
    assert set(values(uncommented)) == set(SETTINGS)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*SETTINGS, "rpcport", "rpcwebsocket", "[x]", "#"]), st.sampled_from(["=", "", " = "])
        )
        .map("".join)
        .flatmap(lambda head: st.text(max_size=12).map(lambda tail: head + tail)),
        max_size=5,
    ).map("\n".join)
)
def test_fuzzed_files_are_an_error_or_a_configuration(text: str) -> None:
    with contextlib.suppress(ConfigError):
        texts = {key: value for key, (value, _) in parse_file(text, "fuzz", SETTINGS, TABLE.prefix).items()}
        assert isinstance(load_config(None, {}, texts).config, Config)


# What may be exposed


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, ["TLS", "users"]),
        ({"user": "a", "password": "b"}, ["TLS"]),
        ({"certificate": "c", "private_key": "k"}, ["users"]),
    ],
)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "node.example"])
def test_a_public_address_without_tls_and_users_is_refused(
    host: str, settings: dict[str, str], missing: list[str]
) -> None:
    with pytest.raises(ConfigError, match="rpcwebsocketinsecure=1") as caught:
        check_exposure(Config(host=host, **settings))  # type: ignore[arg-type]
    for word in missing:
        assert word in str(caught.value)
    check_exposure(Config(host=host, insecure=True, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_loopback_addresses_need_nothing(host: str) -> None:
    check_exposure(Config(host=host))


def test_a_public_address_with_both_is_allowed() -> None:
    check_exposure(Config(host="0.0.0.0", user="a", password="b", certificate="c", private_key="k"))


def test_every_key_is_in_the_json_schema_with_its_bounds() -> None:
    properties = json_schema()["properties"]
    assert list(properties) == list(SETTINGS)
    assert properties["rpcwebsocketworkers"]["minimum"] == 3
    assert properties["rpcwebsocketinsecure"] == {
        "type": "boolean",
        "default": False,
        "description": "Allow clients of a network without TLS or users.",
    }
    assert properties["rpcpassword"]["writeOnly"]


# What was once met with a traceback, or with a value that had changed


def test_a_byte_order_mark_and_odd_line_ends_hide_no_key(tmp_path: Path) -> None:
    path = tmp_path / "dilithion.conf"
    path.write_bytes("\ufeffrpcwebsocketport=99\r\nrpcpassword=a\u2028b\r\nrpcuser=me\r\n".encode())
    config = Config.load(str(path), {})
    assert (config.port, config.user, config.password) == (99, "me", "a\u2028b")


def test_the_line_named_is_that_of_the_key_and_of_no_other_with_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "dilithion.conf"
    path.write_text("rpcwebsocketconnections=9\nrpcwebsocketconnectionsperaddress=0\n")
    with pytest.raises(ConfigError, match="line 2: connections_per_address"):
        Config.load(str(path), {})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("rpcwebsocketpinginterval", "1e12", "at most 100000000"),
        ("rpcwebsocketcalltimeout", "1e300", "at most 100000000"),
        ("rpcwebsocketbacklog", "9" * 20, "from 1 to 65535"),
        ("rpcwebsocketusersfile", "a\0b", "NUL character"),
        ("rpcsslcertificatechainfile", "a\0b", "NUL character"),
        ("rpcwebsocketnosuch", "1", "is not a key"),
    ],
)
def test_values_out_of_every_bound_are_one_clear_error(key: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Config.load(None, {}, {key: value})


def test_the_example_file_with_every_line_in_force_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "dilithion.conf"
    path.write_text("\n".join(line[1:] if line.startswith("#rpc") else line for line in example_file().splitlines()))
    assert Config.load(str(path), {}) == Config()


@pytest.mark.parametrize("value", [2, "0", None])
def test_a_switch_is_true_or_false(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"http \(rpcwebsockethttp\) is .*; it takes True or False"):
        Config(http=value)


def test_host_and_port_may_be_given_by_position() -> None:
    assert Config("127.0.0.2", 5) == Config(host="127.0.0.2", port=5)


def test_paths_may_be_path_objects(tmp_path: Path) -> None:
    assert Config(users_file=tmp_path).users_file == tmp_path  # type: ignore[arg-type,comparison-overlap]


@pytest.mark.parametrize(
    "settings", [{"trusted_proxies": ("127.0.0.1",)}, {"allow_hosts": ("localhost", "wallet.example")}]
)
def test_what_a_proxy_makes_known_to_a_network_needs_users(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the server has no users"):
        check_exposure(Config(**settings))
    check_exposure(Config(insecure=True, **settings))
    check_exposure(Config(user="a", password="b", **settings))


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:8333", "127.0.0.1:80", "[::1]:8333", "::1"])
def test_names_of_this_machine_make_nothing_known(name: str) -> None:
    check_exposure(Config(allow_hosts=(name,)))


@pytest.mark.parametrize("origin", ["*", "null", "*/", "NULL", "null/"])
def test_every_page_in_a_browser_may_not_use_a_server_without_users(origin: str) -> None:
    with pytest.raises(ConfigError, match="rpcwebsocketalloworigin has"):
        check_exposure(Config(allow_origins=(origin,)))
    check_exposure(Config(allow_origins=(origin,), user="a", password="b"))
    check_exposure(Config(allow_origins=("https://wallet.example",)))


def test_an_account_that_is_lent_needs_users() -> None:
    assert exposure_of(Config()).risks == ()
    (risk,) = exposure_of(Config(), lends_account=True).risks
    assert risk.key == "rpcwebsocketusersfile"
    assert exposure_of(Config(cookie_file="x"), lends_account=True).risks == ()


def test_one_public_address_of_several_makes_a_server_public() -> None:
    assert exposure_of(Config("127.0.0.1,192.0.2.1")).reach is Reach.NETWORK
    assert exposure_of(Config()).reach is Reach.MACHINE
    assert exposure_of(Config(trusted_proxies=("127.0.0.1",))).reach is Reach.FORWARDED


@pytest.mark.parametrize("host", ["", ",", "127.0.0.1,"])
def test_an_empty_address_is_an_error(host: str) -> None:
    with pytest.raises(ConfigError, match="it takes addresses to listen on"):
        Config(host=host)


def test_a_secret_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("right horse\r\nsecond line\n")
    environment = {"DILITHION_RPCUSER": "me", "DILITHION_RPCPASSWORD_FILE": str(path)}
    assert Config.load(None, environment).password == "right horse"
    for text in ("", "\nx"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"DILITHION_RPCPASSWORD_FILE: .* has no secret in its first line"):
            Config.load(None, environment)
    path.unlink()
    with pytest.raises(ConfigError, match="can't be read"):
        Config.load(None, environment)


def test_the_password_of_a_store_is_never_shown() -> None:
    config = Config(event_store="redis://:hush@127.0.0.1/0")
    assert "hush" not in repr(config)
    assert shown_value(SETTINGS["rpcwebsocketeventstore"], config.event_store) == "redis://:********@127.0.0.1/0"
    with pytest.raises(ConfigError) as caught:
        Config(event_store="redsi://:hush@127.0.0.1/0")
    assert "hush" not in str(caught.value)
