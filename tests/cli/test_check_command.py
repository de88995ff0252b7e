"""`dilithion-ws check`: what it finds, and its exit status."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme

from dilithion_ws.auth.api_tokens import hash_token
from dilithion_ws.cli import main

from ..support import RedisServer, free_port, needs_redis
from ..support.accounts import write_users
from ..support.certificates import Authority
from ..support.fixtures import ServerFactory
from ..support.standin import StandIn

Check = Callable[..., "tuple[int, list[tuple[str, str, str]]]"]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs the command. Returns the status, and level, subject and text of each finding."""

    def check(*options: str) -> tuple[int, list[tuple[str, str, str]]]:
        if not any(option == "--port" for option in options):
            options = (*options, "--port", str(free_port()))
        status = main(["check", "--json", *options])
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return status, [(line["level"], line["about"], line["text"]) for line in lines]

    return check


def found(findings: list[tuple[str, str, str]], level: str, about: str) -> str:
    return "\n".join(text for one, subject, text in findings if (one, subject) == (level, about))


def test_a_plain_configuration_is_fine(check: Check) -> None:
    status, findings = check()
    assert status == 0
    assert {level for level, _, _ in findings} == {"ok"}
    assert "programs of this machine have all rights" in found(findings, "ok", "users")


def test_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--port", str(free_port())]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("ok       reach     programs of this machine can reach")


def test_a_mistake_in_a_setting(check: Check) -> None:
    status, findings = check("--queue", "x")
    assert status == 1
    assert "--queue" in found(findings, "error", "settings")


def test_what_is_unsafe_is_an_error_and_a_warning_if_it_is_meant(check: Check) -> None:
    status, findings = check("--bind", "0.0.0.0")
    assert status == 1
    assert "the server has no TLS" in found(findings, "error", "reach")
    status, findings = check("--bind", "0.0.0.0", "--insecure", "1")
    assert status == 0
    assert "allowed by rpcwebsocketinsecure=1" in found(findings, "warning", "reach")
    assert check("--bind", "0.0.0.0", "--insecure", "1", "--strict")[0] == 1


def test_proxies(check: Check) -> None:
    _, findings = check("--trusted-proxies", "127.0.0.1,0.0.0.0/0", "--cookie-file", "cookie")
    assert "127.0.0.1 may name clients" in found(findings, "ok", "proxies")
    assert "any host in it can claim to be any client" in found(findings, "warning", "proxies")


def test_users_and_open_files(check: Check, tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    write_users(path, alice="wallet", bob="readonly", carol="readonly")
    data = json.loads(path.read_text())
    entry = {"token_hash": hash_token("x").hex(), "role": "metrics", "expires": "2001-01-01"}
    data["tokens"] = {"old": entry}
    data["users"]["bob"].pop("scheme")
    path.write_text(json.dumps(data))
    path.chmod(0o644)
    status, findings = check("--users-file", str(path))
    assert status == 0
    assert "2 with the role readonly, 1 with the role wallet; 1 API tokens" in found(findings, "ok", "users")
    warnings = found(findings, "warning", "users")
    assert "the passwords of bob have a fast hash" in warnings
    assert "the token old has expired" in warnings
    assert "mode 0644" in found(findings, "warning", "files")
    path.write_text("{")
    assert "not JSON" in found(check("--users-file", str(path))[1], "error", "users")
    path.unlink()
    assert "can't be read" in found(check("--users-file", str(path))[1], "error", "users")


def test_a_configuration_file_with_a_password(check: Check, tmp_path: Path) -> None:
    conf = tmp_path / "dilithion.conf"
    conf.write_text("rpcuser=me\nrpcpassword=hush\n")
    conf.chmod(0o644)
    _, findings = check("--conf", str(conf))
    assert "every user of this machine can use it" in found(findings, "warning", "files")
    assert "hush" not in str(findings)
    conf.chmod(0o600)
    assert not found(check("--conf", str(conf))[1], "warning", "files")


def test_directories_that_do_not_exist(check: Check, tmp_path: Path) -> None:
    missing = str(tmp_path / "none" / "file")
    status, findings = check("--cookie-file", missing, "--audit-log", missing)
    assert status == 1
    assert found(findings, "error", "files").count("does not exist or can't be written") == 2


def test_a_certificate(check: Check, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    options = ("--certificate", str(authority.certificate), "--private-key", str(authority.key))
    status, findings = check(*options)
    assert status == 0
    assert "the certificate is for localhost, 127.0.0.1, until " in found(findings, "ok", "tls")
    authority.key.chmod(0o644)
    assert "has mode 0644" in found(check(*options)[1], "error", "tls")


@pytest.mark.parametrize(
    ("days", "level", "text"), [(5, "warning", "until 20"), (-1, "error", "certificate has expired")]
)
def test_a_certificate_that_ends(check: Check, tmp_path: Path, days: int, level: str, text: str) -> None:
    now = datetime.now(timezone.utc)
    issued = trustme.CA().issue_cert("localhost", not_before=now - timedelta(2), not_after=now + timedelta(days))
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    key.chmod(0o600)
    _, findings = check("--certificate", str(certificate), "--private-key", str(key))
    assert text in found(findings, level, "tls")


def test_a_port_in_use(check: Check, start: ServerFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        status, findings = check("--port", str(sock.getsockname()[1]))
    assert status == 1
    assert "another program listens there" in found(findings, "error", "port")
    status, findings = check("--port", str(start().port))
    assert status == 0
    assert "a server of this kind, version" in found(findings, "ok", "port")


def test_too_few_files(check: Check) -> None:
    _, findings = check("--connections", "1000000")
    assert "too few for 1000000 connections" in found(findings, "warning", "files")


def test_sqlite(check: Check, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    options = ("--event-store", f"sqlite:{path}")
    assert check(*options)[0] == 0
    assert not path.exists()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE x (y)")
    assert check(*options)[0] == 0
    path.write_bytes(b"nonsense" * 1000)
    assert "file is not a database" in found(check(*options)[1], "error", "events")
    odd = tmp_path / "a?mode=memory#1.db"
    odd.write_bytes(b"nonsense" * 1000)
    assert "not a database" in found(check("--event-store", f"sqlite:{odd}")[1], "error", "events")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a?mode=memory#1.db", "events.db"]
    missing = ("--event-store", f"sqlite:{tmp_path}/none/events.db")
    assert "can't be written" in found(check(*missing)[1], "error", "events")


@needs_redis
def test_redis(check: Check, redis_server: RedisServer) -> None:
    url = redis_server.url
    assert check("--event-store", url)[0] == 0
    redis_server.kill()
    assert "refused" in found(check("--event-store", url)[1], "error", "events")


def test_a_gateway(check: Check, standin: StandIn, tmp_path: Path) -> None:
    status, findings = check("--gateway", "--upstream", standin.url)
    assert status == 0
    assert "speaks dilithion, and has" in found(findings, "ok", "node")
    status, findings = check("--gateway", "--upstream", f"http://127.0.0.1:{free_port()}")
    assert status == 1
    assert "the node can't be reached" in found(findings, "error", "node")


def test_a_gateway_that_the_node_rejects(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    node = StandIn("me:right")
    monkeypatch.setenv("DILITHION_RPCGATEWAYPASSWORD", "wrong")
    try:
        status, findings = check("--gateway", "--upstream", node.url, "--upstream-user", "me", "--insecure", "1")
    finally:
        node.stop()
    assert status == 1
    assert "rejects the gateway's credentials" in found(findings, "error", "node")
    assert "every client has the rights of that account" in found(findings, "warning", "reach")


def test_a_port_that_the_node_reads_too(check: Check, standin: StandIn, tmp_path: Path) -> None:
    conf = tmp_path / "dilithion.conf"
    conf.write_text(f"rpcwebsocketport={free_port()}\n")
    status = main(["check", "--gateway", "--upstream", standin.url, "--conf", str(conf), "--strict"])
    assert status == 1


def test_it_disturbs_no_server_and_leaves_no_files(check: Check, start: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    options = ("--event-store", f"sqlite:{path}", "--audit-log", str(tmp_path / "audit"))
    (tmp_path / "audit").touch(0o640)
    server = start(event_store=f"sqlite:{path}")
    assert check(*options)[0] == 0
    server.publish("mining", {"kind": "stopped"})
    server.stop()
    before = sorted(file.name for file in tmp_path.iterdir())
    assert check(*options)[0] == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == before
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o640
    server.start()


def test_it_changes_nothing(check: Check, tmp_path: Path) -> None:
    before = os.listdir(tmp_path)
    options = ("--cookie-file", str(tmp_path / "cookie"), "--audit-log", str(tmp_path / "audit"))
    check(*options, "--event-store", f"sqlite:{tmp_path}/events.db")
    assert os.listdir(tmp_path) == before
