"""`dilithion-ws status`, `topics` and `methods` against a server in this process."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from dilithion_ws import WebSocketServer

from ..support import free_port
from ..support.accounts import write_users
from ..support.certificates import Authority
from ..support.fixtures import Run, ServerFactory
from ..support.programs import published


def test_topics_are_a_table(run: Run, server: WebSocketServer, url: tuple[str, str]) -> None:
    for _ in range(3):
        server.publish("mining", {"kind": "stopped"})
    status, output, _ = run("topics", *url)
    assert status == 0
    head, *rows = output.splitlines()
    assert head.split() == ["TOPIC", "EVENTS", "KEPT", "PERMISSION", "FILTERS"]
    (mining,) = [row for row in rows if row.startswith("mining")]
    assert mining.split() == ["mining", "3", "3", "READ_MINING", "kind"]
    assert mining.index("READ_MINING") == head.index("PERMISSION")
    assert json.loads(run("topics", "--json", *url)[1])[0]["topic"] == "blocks"


def test_methods_can_be_searched(run: Run, url: tuple[str, str]) -> None:
    _, output, _ = run("methods", *url)
    assert "subscribe" in output
    status, output, _ = run("methods", "ADD TWO", *url)
    assert status == 0
    assert [line.split() for line in output.splitlines()] == [
        ["METHOD", "PARAMS", "SUMMARY"],
        ["add", "a", "[b]", "Add", "two", "numbers"],
    ]
    assert json.loads(run("methods", "add two", "--json", *url)[1])[0]["name"] == "add"
    status, _, errors = run("methods", "nosuch", *url)
    assert (status, errors) == (1, "dilithion-ws: no method has 'nosuch' in its name or summary\n")


def test_the_status_of_a_good_server(run: Run, server: WebSocketServer, url: tuple[str, str]) -> None:
    server.health.report("node", True, {"height": 7})
    run("call", "getblockcount", *url)
    status, output, errors = run("status", *url)
    assert (status, errors) == (0, "")
    found = dict(line.split("  ", 1) for line in output.splitlines())
    found = {name: text.strip() for name, text in found.items()}
    assert found["ready"] == "yes"
    assert found["node"] == "good: height 7"
    assert "1 open" in found["connections"]
    assert found["getblockcount"].startswith("1 calls, 0 failed, ")
    assert json.loads(run("status", "--json", *url)[1])["health"]["ready"] is True


def test_the_status_is_a_failure_if_something_is_not_good(
    run: Run, server: WebSocketServer, url: tuple[str, str]
) -> None:
    server.health.report("node", False, {"reason": "down"})
    status, output, _ = run("status", *url)
    assert status == 1
    assert "NOT GOOD: reason down" in output


def test_whether_it_is_live_does_not_depend_on_its_node(
    run: Run, server: WebSocketServer, url: tuple[str, str]
) -> None:
    server.health.report("node", False, {"reason": "down"})
    assert run("status", "--live", *url) == (0, "", "")
    assert run("status", "--live", "--url", f"ws://127.0.0.1:{free_port()}")[0] == 1


def test_a_server_is_found_by_its_own_configuration(run: Run, start: ServerFactory, tmp_path: Path) -> None:
    """By the gateway's port, and by its own certificate, of any authority."""
    authority = Authority(tmp_path)
    authority.ca = authority.ca.create_child_ca()
    authority.renew("public.example.org")
    certificate, key = str(authority.certificate), str(authority.key)
    server = start(certificate=certificate, private_key=key)
    conf = tmp_path / "dilithion.conf"
    conf.write_text(
        f"rpcgatewayport={server.port}\nrpcwebsocketport=1\n"
        f"rpcsslcertificatechainfile={certificate}\nrpcsslprivatekeyfile={key}\n"
    )
    assert run("status", "--live", "--conf", str(conf)) == (0, "", "")
    assert run("call", "getblockcount", "--conf", str(conf))[0] == 0
    authority.renew(
        "public.example.org"
    )  # the same authority has issued another one, which the server does not use yet
    status, _, errors = run("status", "--live", "--conf", str(conf))
    assert status == 1
    assert "certificate verify failed" in errors


def test_a_server_without_http_is_live(run: Run, start: ServerFactory) -> None:
    server = start(http=False)
    assert run("status", "--live", "--url", f"ws://127.0.0.1:{server.port}") == (0, "", "")
    assert "has the status 426" in run("status", "--url", f"ws://127.0.0.1:{server.port}")[2]


def test_who_may_not_see_the_numbers_sees_the_health(run: Run, start: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    write_users(path, reader="readonly")
    conf = tmp_path / "client.conf"
    conf.write_text("rpcuser=reader\nrpcpassword=readerreader\n")
    status, output, errors = run("status", "--url", start(users_file=str(path)).url, "--conf", str(conf))
    assert status == 0
    assert output.startswith("ready")
    assert "the server's numbers need READ_METRICS" in errors


def test_the_status_over_tls(run: Run, start: ServerFactory, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = start(certificate=str(authority.certificate), private_key=str(authority.key))
    address = ("--url", f"wss://localhost:{server.port}")
    assert run("status", "--ca", str(authority.root), *address)[0] == 0
    assert "certificate verify failed" in run("status", *address)[2]


@pytest.mark.parametrize("command", ["status", "topics", "methods"])
def test_without_a_server_each_fails_with_the_cause(run: Run, command: str) -> None:
    status, output, errors = run(command, "--url", f"ws://127.0.0.1:{free_port()}")
    assert (status, output) == (1, "")
    assert errors.endswith("Connection refused; is the server running?\n")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--url", "ws://127.0.0.1:abc"), "can't be read"),
        (("--url", "http://127.0.0.1"), "is not the address of a server"),
        (("--timeout", "-1"), "--timeout is -1"),
    ],
)
def test_options_that_cannot_be_used_are_named(run: Run, options: tuple[str, ...], words: str) -> None:
    status, _, errors = run("status", *options)
    assert status == 1
    assert words in errors


def test_a_port_that_speaks_something_else_is_not_a_server(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(b"SSH-2.0-test\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        status, _, errors = run("status", "--url", f"ws://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert status == 1
    assert "can't be read" in errors


def test_another_program_s_answer_is_not_a_status(run: Run) -> None:
    with published("<p>hello") as port:
        status, _, errors = run("status", "--url", f"ws://127.0.0.1:{port}")
    assert status == 1
    assert "is not the health of a server of dilithion_ws" in errors
