"""`dilithion-ws call` against a server in this process."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from dilithion_ws import RpcTable, WebSocketServer

from ..support import free_port
from ..support.certificates import Authority
from ..support.fixtures import Run, ServerFactory

# Calls


def test_a_number_is_printed_as_it_is(run: Run, url: tuple[str, str]) -> None:
    assert run("call", "getblockcount", *url) == (0, "840000\n", "")


@pytest.mark.parametrize("params", [("20", "3"), ("a=20", "b=3")], ids=["by position", "by name"])
def test_params_that_are_json_are_sent_as_such(run: Run, url: tuple[str, str], params: tuple[str, ...]) -> None:
    assert run("call", "add", *params, *url)[1] == "23\n"


@pytest.mark.parametrize("text", ["hello", "NaN", "{"])
def test_a_param_that_is_no_json_is_a_string(run: Run, url: tuple[str, str], text: str) -> None:
    assert run("call", "echo", text, "--json", *url)[1] == json.dumps(text) + "\n"


def test_a_string_is_printed_without_quotes_and_control_characters(run: Run, url: tuple[str, str]) -> None:
    assert run("call", "echo", '"a\\u001b[31mb"', *url)[1] == "a\\x1b[31mb\n"


@pytest.mark.parametrize("params", [["0.10000000"], ["value=0.10000000"], ["--params", "[0.10000000]"]])
def test_a_number_keeps_its_digits(run: Run, start: ServerFactory, params: list[str]) -> None:
    table = RpcTable()

    @table.method
    def echo(value: Decimal) -> Decimal:
        return value

    assert run("call", "echo", *params, "--json", "--url", start(table).url)[1] == "0.10000000\n"


def test_an_object_is_printed_on_several_lines(run: Run, url: tuple[str, str]) -> None:
    assert run("call", "echo", '{"a":1}', *url)[1] == '{\n  "a": 1\n}\n'


def test_a_param_that_is_nested_too_deeply_is_refused(run: Run, url: tuple[str, str]) -> None:
    status, _, errors = run("call", "echo", "[" * 100_000, *url)
    assert (status, errors) == (1, "dilithion-ws: a param is nested too deeply\n")


def test_an_error_of_the_server_is_printed_and_exits_with_1(run: Run, url: tuple[str, str]) -> None:
    status, output, errors = run("call", "add", "x", *url)
    assert (status, output) == (1, "")
    assert errors.startswith("dilithion-ws: Invalid params")


def test_without_a_server_a_call_exits_with_1(run: Run) -> None:
    status, _, errors = run("call", "x", "--timeout", "0.2", "--url", f"ws://127.0.0.1:{free_port()}")
    assert status == 1
    assert "Connection refused" in errors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--url", "http://x"), "is not the address of a server"),
        (("--timeout", "0"), "--timeout is 0; it takes seconds, more than 0"),
        (("--ca", "nowhere.pem"), "--ca: nowhere.pem can't be used"),
    ],
)
def test_options_that_cannot_be_used_are_named(run: Run, options: tuple[str, ...], words: str) -> None:
    status, _, errors = run("call", "x", *options)
    assert status == 1
    assert words in errors


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (("--strings", "5"), "5"),
        (("--strings", "aGVsbG8="), "aGVsbG8="),
        (("--params", '["true"]'), "true"),
        (("--params", '{"value": 0.10}'), 0.1),
    ],
)
def test_a_param_can_be_a_string_that_looks_like_something_else(
    run: Run, url: tuple[str, str], arguments: tuple[str, ...], sent: object
) -> None:
    assert json.loads(run("call", "echo", *arguments, "--json", *url)[1]) == sent


@pytest.mark.parametrize("arguments", [("--params", "5"), ("--params", "{"), ("1", "--params", "[1]")])
def test_params_take_an_array_or_an_object(run: Run, url: tuple[str, str], arguments: tuple[str, ...]) -> None:
    status, _, errors = run("call", "echo", *arguments, *url)
    assert status == 1
    assert "--params takes one JSON array or object" in errors


# Credentials


@pytest.fixture
def alice(start: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The address of a server with a user."""
    monkeypatch.delenv("DILITHION_RPCPASSWORD", raising=False)
    return ("--url", start(user="alice", password="alicealice").url)


def test_credentials_come_from_the_configuration_of_the_server(
    run: Run, alice: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "dilithion.conf").write_text("rpcuser=alice\nrpcpassword=alicealice\n")
    assert run("call", "getblockcount", "--datadir", str(tmp_path), *alice)[0] == 0


def test_the_address_comes_from_the_configuration_of_the_server(
    run: Run, server: WebSocketServer, tmp_path: Path
) -> None:
    path = tmp_path / "dilithion.conf"
    path.write_text(f"rpcwebsocketport={server.port}\n")
    assert run("call", "getblockcount", "--conf", str(path))[0] == 0


def test_a_password_comes_from_the_environment(
    run: Run, alice: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DILITHION_RPCPASSWORD", "alicealice")
    assert run("call", "getblockcount", "--user", "alice", *alice)[0] == 0


def test_a_password_comes_from_standard_input(
    run: Run, alice: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("alicealice\n"))
    assert run("call", "getblockcount", "--user", "alice", *alice)[0] == 0


def test_a_wrong_password_is_reported(run: Run, alice: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DILITHION_RPCPASSWORD", "hush-wrong")
    status, _, errors = run("call", "getblockcount", "--user", "alice", *alice)
    assert status == 1
    assert "the server refused the connection: 401" in errors


def test_without_credentials_a_call_is_refused(run: Run, alice: tuple[str, str]) -> None:
    assert "Not authenticated" in run("call", "getblockcount", *alice)[2]


def test_the_cookie_of_the_server_is_read(run: Run, start: ServerFactory, tmp_path: Path) -> None:
    server = start(cookie_file=str(tmp_path / ".cookie"))
    assert run("call", "getblockcount", "--datadir", str(tmp_path), "--url", server.url)[0] == 0


def test_an_authority_can_be_trusted(run: Run, start: ServerFactory, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = start(certificate=str(authority.certificate), private_key=str(authority.key))
    address = ("--url", f"wss://localhost:{server.port}")
    assert run("call", "getblockcount", "--ca", str(authority.root), *address)[0] == 0
    assert "can't be verified" in run("call", "getblockcount", *address)[2]
