"""`dilithion-ws call` and `dilithion-ws watch` against a server in this process."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dilithion_ws import WebSocketServer
from dilithion_ws.cli import main
from dilithion_ws.cli.call_command import clean

from ..support import free_port, wait_for
from ..support.accounts import write_users
from ..support.certificates import Authority
from ..support.fixtures import ServerFactory

Run = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command, and returns its exit status, its output and its errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def server(start: ServerFactory) -> WebSocketServer:
    return start()


@pytest.fixture
def url(server: WebSocketServer) -> tuple[str, str]:
    return ("--url", server.url)


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


def test_unprintable_characters_are_escaped() -> None:
    assert clean("a\x1b[0m\tb\nc") == "a\\x1b[0m\tb\nc"


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


# Events


def price(amount: int) -> dict[str, object]:
    return {"kind": "added" if amount % 2 else "removed", "amount": amount, "text": "a b"}


@pytest.fixture
def feed(start: ServerFactory) -> tuple[str, ...]:
    """Options to watch the three events of the topic `prices`, from the first on."""
    server = start()
    topic = server.topic("prices", permission="READ_BLOCKCHAIN", filters={"amount": "amount"})
    for amount in (1, 2, 3):
        server.publish("prices", price(amount))
    return ("prices", "--url", server.url, "--since", f"{topic.log.position.epoch}:1")


def test_events_are_printed_one_a_line(run: Run, feed: tuple[str, ...]) -> None:
    status, output, _ = run("watch", "--count", "2", *feed)
    assert status == 0
    assert output == "prices 2 removed amount=2 text=a b\nprices 3 added amount=3 text=a b\n"


def test_events_are_printed_as_json(run: Run, feed: tuple[str, ...]) -> None:
    event = json.loads(run("watch", "--count", "1", "--json", *feed)[1])
    assert (event["topic"], event["seq"], event["event"]) == ("prices", 2, price(2))


def test_a_filter_is_sent(run: Run, feed: tuple[str, ...]) -> None:
    output = run("watch", "--count", "1", "--filter", '{"amount": 3}', *feed)[1]
    assert output.startswith("prices 3 ")


def test_colours_are_for_a_terminal(run: Run, feed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "\033[31mremoved\033[0m" in run("watch", "--count", "1", *feed)[1]


def test_the_newest_event_is_enough_for_latest(run: Run, feed: tuple[str, ...]) -> None:
    assert run("watch", "--count", "1", "--latest", *feed)[1].startswith("prices 3 ")


def test_lost_events_are_reported(run: Run, start: ServerFactory) -> None:
    server = start()
    server.topic("prices", permission="READ_BLOCKCHAIN")
    is_over = threading.Event()

    def publish() -> None:
        while not is_over.wait(0.02):
            server.publish("prices", price(1))

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        status, output, errors = run("watch", "prices", "--url", server.url, "--since", "another:1", "--count", "1")
    finally:
        is_over.set()
        publisher.join()
    assert status == 0
    assert output.startswith("prices ")
    assert "events of prices are lost" in errors


def test_interrupting_ends_it(run: Run, feed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dilithion_ws.cli.call_command._print", interrupt)
    assert run("watch", *feed)[0] == 0


def test_a_subscription_that_the_server_ends_exits_with_1(
    run: Run, start: ServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user loses a permission after the client has printed an event, so that it knows of its subscription."""
    path = tmp_path / "users.json"
    write_users(path, reader="wallet")
    server = start(users_file=str(path))
    conf = tmp_path / "client.conf"
    conf.write_text("rpcuser=reader\nrpcpassword=readerreader\n")
    server.topic("prices", permission="WRITE_WALLET")
    printed = threading.Event()
    monkeypatch.setattr("dilithion_ws.cli.call_command._print", lambda *arguments: printed.set())
    demoter = threading.Thread(target=lambda: _demote_once_printed(server, path, printed))
    demoter.start()
    status, _, errors = run("watch", "prices", "--url", server.url, "--conf", str(conf))
    demoter.join()
    assert status == 1
    assert "you may not read this any more" in errors


def _demote_once_printed(server: WebSocketServer, path: Path, printed: threading.Event) -> None:
    wait_for(lambda: server.statistics().topics["prices"].subscriptions)
    server.publish("prices", {})
    assert printed.wait(10)
    write_users(path, reader="readonly")
    assert server.reload()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch"], "there is no topic 'nosuch'"),
        (["blocks", "--filter", "{"], "--filter is not JSON"),
        (["blocks", "--filter", "[]"], "--filter takes an object"),
        (["blocks", "--since", "x"], "--since is 'x'; it takes HEIGHT, HEIGHT:HASH, or EPOCH:SEQ"),
        (["blocks", "peers", "--since", "x:1"], "goes with one topic"),
    ],
)
def test_what_cannot_be_watched_exits_with_1(run: Run, url: tuple[str, str], arguments: list[str], words: str) -> None:
    status, _, errors = run("watch", *arguments, *url)
    assert status == 1
    assert words in errors
