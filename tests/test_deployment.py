"""The operator's kit in `deploy/`: its files agree with the package, and do what their comments say."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dilithion_ws import Config, RpcTable, WebSocketServer
from dilithion_ws.client import Client
from dilithion_ws.config.sources import load
from dilithion_ws.gateway import Gateway, GatewayConfig
from dilithion_ws.gateway.gateway_config import GATEWAY_TABLE

from .support import free_port, wait_for
from .support.accounts import write_users
from .support.gateways import ready
from .support.standin import StandIn
from .support.subscriptions import block

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
LOCKED = (DEPLOY / "requirements.txt").read_text()
RUNTIME_EXTRAS = {"gateway", "prometheus", "redis", "speed", "zmq"}


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Mark a test of a file for a program of Debian."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program} (apt-get install {package})")


# Packages


def runtime_requirements() -> list[Requirement]:
    """What the package and its extras for deployments need."""
    found = [Requirement(text) for text in importlib.metadata.requires("dilithion-ws") or ()]
    extras = [{"extra": extra} for extra in ("", *RUNTIME_EXTRAS)]
    return [one for one in found if one.marker is None or any(map(one.marker.evaluate, extras))]


@pytest.mark.parametrize("requirement", runtime_requirements(), ids=str)
def test_every_dependency_is_locked_with_its_hashes(requirement: Requirement) -> None:
    blocks = re.findall(rf"^{requirement.name}==(\S+)[^\n]*\\\n((?:    --hash=\S+[^\n]*\n)+)", LOCKED, re.MULTILINE)
    assert blocks
    for version, hashes in blocks:
        assert requirement.specifier.contains(version)
        assert re.fullmatch(r"(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", hashes)


def test_no_index_is_named() -> None:
    assert "http" not in LOCKED
    assert "--index" not in LOCKED


# systemd

UNIT = (DEPLOY / "systemd" / "dilithion-ws.service").read_text()
USER = 65534


@needs("systemd-analyze", "systemd")
def test_the_units_are_valid_and_confined(tmp_path: Path) -> None:
    for name in ("dilithion-ws.service", "dilithion-ws.socket"):
        text = (DEPLOY / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/dilithion-ws/bin/dilithion-ws", shutil.which("true") or ""))
    units = [str(tmp_path / "dilithion-ws.service"), str(tmp_path / "dilithion-ws.socket")]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=30", units[0]]
    rated = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rated.returncode == 0, rated.stdout.splitlines()[-1]


def test_starts_that_fail_are_tried_again_and_again() -> None:
    """systemd would otherwise give up after five, and close the port of the socket unit."""
    options = UNIT.partition("[Unit]")[2].partition("\n[")[0].splitlines()
    assert "StartLimitIntervalSec=0" in options
    assert "Restart=always" in UNIT.splitlines()


@needs("systemd-sysusers", "systemd")
def test_the_user_of_the_unit_is_made_by_sysusers() -> None:
    command = ["systemd-sysusers", "--dry-run", str(DEPLOY / "systemd" / "sysusers.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (user,) = re.findall(r"^User=(\S+)$", UNIT, re.MULTILINE)
    assert f"'{user}'" in done.stdout + done.stderr


AS_USER = """
import importlib, os, pkgutil, sys
import dilithion_ws, encodings
for package in (encodings, dilithion_ws):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith(("__main__", "mbcs", "oem")):
            importlib.import_module(module.name)
os.setgroups([])
os.setgid({user})
os.setuid({user})
os.umask(0o077)
sys.exit(dilithion_ws.cli.main({arguments!r}))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become the unit's user")
def test_the_command_of_the_unit_runs_as_its_user_with_its_paths() -> None:
    """The folders are those that systemd and docs/operations.md make; the interpreter is imported before, as root's."""
    node = StandIn()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        settings, state = Path(folder) / "etc", Path(folder) / "state"
        settings.mkdir(mode=0o750)
        state.mkdir(mode=0o700)
        os.chown(settings, 0, USER)
        os.chown(state, USER, USER)
        port = free_port()
        conf = settings / "dilithion.conf"
        text = (DEPLOY / "dilithion.conf").read_text().replace("http://127.0.0.1:8332", node.url)
        text = text.replace("=8333", f"={port}").replace("/var/lib/dilithion-ws", str(state))
        conf.write_text(re.sub("^#(rpc(?:user|password)=)", r"\1", text, flags=re.MULTILINE))
        os.chmod(conf, 0o640)
        os.chown(conf, 0, USER)

        def placed(text: str) -> str:
            return text.replace("/etc/dilithion-ws", str(settings)).replace("/var/lib/dilithion-ws", str(state))

        (command,) = re.findall(r"^ExecStart=/opt/dilithion-ws/bin/dilithion-ws (.*)$", UNIT, re.MULTILINE)
        process = subprocess.Popen(
            [sys.executable, "-c", AS_USER.format(user=USER, arguments=placed(command).split())],
            cwd=state,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("Listening on"), line + process.communicate(timeout=20)[1]
            with Client(f"ws://127.0.0.1:{port}", user="admin", password="change-me-admin") as client:
                assert client.call("getblockcount") == 0
            wait_for(lambda: (state / "events.db").exists() and (state / "audit.log").exists(), 20, "its files")
            assert (state / "events.db").stat().st_uid == USER
            assert (state / "events.db").stat().st_mode & 0o077 == 0
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=20)
            node.stop()
        assert process.returncode == 0, errors
        assert "WARNING" not in errors


# Monitoring


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What a gateway with a stored log shows at `/metrics`, after a call."""
    node = StandIn()
    store = f"sqlite:{tmp_path_factory.mktemp('metrics') / 'events.db'}"
    try:
        with Gateway(GatewayConfig(upstream=node.url), Config(insecure=True, event_store=store)) as gateway:
            ready(gateway)
            with Client(gateway.server.url) as client:
                client.call("getblockcount")
            with urllib.request.urlopen(f"http://127.0.0.1:{gateway.server.port}/metrics", timeout=10) as response:
                yield response.read().decode()
    finally:
        node.stop()


def used_names(text: str) -> set[str]:
    return set(re.findall(r"\b(dilithion_\w+)", text))


def rules() -> str:
    text = (DEPLOY / "prometheus" / "dilithion-ws-alerts.yaml").read_text()
    return "\n".join(re.findall(r"expr: (.*)", text))


def queries() -> str:
    dashboard = json.loads((DEPLOY / "grafana" / "dilithion-ws.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return "\n".join([*found, *(one["query"] for one in dashboard["templating"]["list"])])


@pytest.mark.parametrize("text", [rules(), queries()], ids=["alert rules", "dashboard"])
def test_every_metric_that_is_used_exists(text: str, metrics: str) -> None:
    assert used_names(text)
    assert used_names(text) - used_names(metrics) == set()


def test_labels_that_are_zero_are_present(metrics: str) -> None:
    for line in (
        'dilithion_ws_connections{state="draining"} 0.0',
        'dilithion_ws_subscriptions{topic="peers"} 0.0',
        'dilithion_ws_lag{topic="peers"} 0.0',
        'dilithion_ws_queue{lane="calls"} 0.0',
        'dilithion_ws_refusals_total{event="locked out"} 0.0',
    ):
        assert line in metrics


@needs("promtool", "prometheus")
def test_the_alert_rules_alert() -> None:
    folder = DEPLOY / "prometheus"
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts-test.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs("logrotate", "logrotate")
def test_the_audit_log_is_rotated_and_written_again(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    text = (DEPLOY / "logrotate.conf").read_text().replace("/var/lib/dilithion-ws/audit.log", str(log))
    owner = pwd.getpwuid(os.geteuid()).pw_name
    (tmp_path / "conf").write_text(re.sub(r"^ +su .*\n", f"    su {owner} {owner}\n", text, flags=re.MULTILINE))
    with WebSocketServer(RpcTable(), Config(user="a", password="adminadmin", audit_log=str(log))) as server:
        for part in (1, 2):
            with pytest.raises(Exception, match="401"), Client(server.url, user="a", password=f"hush-wrong{part}"):
                pass
            wait_for(log.exists, 10, "a line")
            if part == 1:
                command = ["logrotate", "--force", "--state", str(tmp_path / "state"), str(tmp_path / "conf")]
                subprocess.run(command, check=True, capture_output=True)
                assert not log.exists()
    assert "login failed" in (tmp_path / "audit.log.1").read_text()
    assert "login failed" in log.read_text()


# Backup and restore


def run_script(folder: Path, name: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run a script of `deploy/` with this interpreter's program."""
    program = folder / "dilithion-ws"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dilithion_ws "$@"\n')
    program.chmod(0o700)
    command = [str(DEPLOY / name), *map(str, arguments)]
    environment = {**os.environ, "DILITHION_WS": str(program), "DILITHION_WS_USER": "", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_users_and_events_survive_a_backup_and_a_restore(tmp_path: Path) -> None:
    folder, store = tmp_path / "etc", tmp_path / "events.db"
    folder.mkdir()
    conf = folder / "dilithion.conf"
    conf.write_text(f"rpcwebsocketeventstore=sqlite:{store}\nrpcwebsocketport=0\n")
    users = folder / "rpc_permissions.json"
    write_users(users, reader="readonly")

    def serve() -> WebSocketServer:
        return WebSocketServer(RpcTable(), Config(event_store=f"sqlite:{store}", users_file=str(users)))

    backup = tmp_path / "backups" / "one"
    with serve() as server:
        for height in (1, 2, 3):
            server.publish("blocks", block(height))
        wait_for(lambda: server.events.topic("blocks").log.position.seq == 3)
        position = server.events.topic("blocks").log.position
        done = run_script(tmp_path, "backup", conf, backup)
        assert done.returncode == 0, done.stderr
        assert run_script(tmp_path, "backup", conf, backup).returncode == 1, "a backup is never overwritten"
        for height in (4, 5):
            server.publish("blocks", block(height))
        wait_for(lambda: server.events.topic("blocks").log.position.seq == 5)
    assert (backup / "events.jsonl").stat().st_mode & 0o077 == 0
    for path in (conf, users, *tmp_path.glob("events.db*")):
        path.unlink()

    restored = run_script(tmp_path, "restore", backup, conf)
    assert restored.returncode == 0, restored.stderr
    with serve() as server, Client(server.url, user="reader", password="readerreader") as client:
        restored_at = server.events.topic("blocks").log.position
        subscription = client.subscribe("blocks", since=(restored_at.epoch, 1))
        assert [subscription.get(10).data["height"] for _ in range(2)] == [2, 3]
        for height in (4, 5, 6):
            server.publish("blocks", block(height))  # numbers that were given before
        reply = client.call("subscribe", "blocks", {"kind": "connected"}, {"epoch": position.epoch, "seq": 5})
        assert (reply["recovered"], reply["reason"]) == (False, "epoch")
    users.write_text("{}")
    again = run_script(tmp_path, "restore", backup, conf)
    assert again.returncode == 1, "a store that has events is not overwritten"
    assert users.read_text() == "{}", "and then nothing is changed"


def test_a_backup_without_stored_events_says_so(tmp_path: Path) -> None:
    conf = tmp_path / "dilithion.conf"
    conf.write_text("rpcwebsocketport=0\n")
    done = run_script(tmp_path, "backup", conf, tmp_path / "backup")
    assert done.returncode == 0, done.stderr
    assert "events are kept in memory only" in done.stderr
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["dilithion.conf"]


@pytest.mark.parametrize("name", ["backup", "restore"])
def test_without_arguments_a_script_explains_itself(tmp_path: Path, name: str) -> None:
    done = run_script(tmp_path, name)
    assert done.returncode == 2
    assert f"deploy/{name} " in done.stderr


# Containers


def test_the_files_that_containers_use_exist_and_load() -> None:
    compose = (DEPLOY / "compose" / "compose.yaml").read_text()
    names = re.findall(r'"\./([\w.]+):/etc', compose) + re.findall(r"dockerfile: (Containerfile\S*)", compose)
    assert sorted(names) == ["Containerfile.node", "dilithion.conf", "nginx.conf"]
    for name in names:
        assert (DEPLOY / "compose" / name).exists()
    assert (ROOT / re.findall(r"dockerfile: (deploy/\S+)", compose)[0]).exists()
    path = str(DEPLOY / "compose" / "dilithion.conf")
    assert Config.load(path, {}).has_users
    gateway = load(GatewayConfig, GATEWAY_TABLE, path, {}, {}).config
    assert gateway.listen_port == 8333
    assert gateway.upstream == "http://node:8332"
    (password,) = re.findall(r"-rpcpassword=([^\"]+)", compose)
    assert gateway.upstream_password == password


def test_the_health_check_of_the_container_follows_the_configuration(tmp_path: Path) -> None:
    text = (DEPLOY / "Containerfile").read_text()
    (program, *words) = json.loads(re.findall(r"^HEALTHCHECK CMD (\[.*\])$", text, re.MULTILINE)[0])
    assert program == "dilithion-ws"
    conf = tmp_path / "dilithion.conf"
    assert words[-1] == "/etc/dilithion-ws/dilithion.conf"
    command = [sys.executable, "-m", "dilithion_ws", *words[:-1], str(conf)]
    with WebSocketServer(RpcTable()) as server:
        conf.write_text(f"rpcgatewayport={server.port}\n")
        assert subprocess.run(command, cwd=ROOT, timeout=30, check=False).returncode == 0
    assert subprocess.run(command, cwd=ROOT, timeout=30, capture_output=True, check=False).returncode == 1
