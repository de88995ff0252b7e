"""The smoke test that operators run against a server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from ..support.commands import ROOT, serving


def run_python(*arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT
    )


def test_the_smoke_script_passes_on_a_good_server() -> None:
    with serving("--dev") as (_, port):
        result = run_python("scripts/smoke.py", "--url", f"ws://127.0.0.1:{port}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("ok     ") == 7
    assert "7 of 7 checks held" in result.stdout


def test_the_smoke_script_logs_in_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = trustme.CA()
    issued = ca.issue_cert("localhost", "127.0.0.1")
    key, chain, root = tmp_path / "key.pem", tmp_path / "chain.pem", tmp_path / "root.pem"
    key.write_bytes(issued.private_key_pem.bytes())
    key.chmod(0o600)
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    ca.cert_pem.write_to_path(str(root))
    files = ["--certificate", str(chain), "--private-key", str(key)]
    monkeypatch.setenv("DILITHION_RPCPASSWORD", "alicealice")
    with serving("--dev", "--rpcuser", "alice", *files) as (_, port):
        url = f"wss://localhost:{port}"
        result = run_python("scripts/smoke.py", "--url", url, "--ca", str(root), "--user", "alice")
        assert result.returncode == 0, result.stdout + result.stderr
        assert "ok     login: alice" in result.stdout
        monkeypatch.setenv("DILITHION_RPCPASSWORD", "hush-wrong")
        result = run_python("scripts/smoke.py", "--url", url, "--ca", str(root), "--user", "alice")
        assert result.returncode == 1
        assert "FAILED login" in result.stdout
        assert run_python("scripts/smoke.py", "--url", url).returncode == 1, "an unknown authority"


def test_the_smoke_script_fails_on_a_bad_server() -> None:
    with serving("--echo") as (_, port):
        result = run_python("scripts/smoke.py", "--url", f"ws://127.0.0.1:{port}")
    assert result.returncode == 1
    assert "FAILED call" in result.stdout
    assert run_python("scripts/smoke.py", "--url", "ws://127.0.0.1:1").returncode == 1
    assert run_python("scripts/smoke.py", "--url", "http://127.0.0.1:1").returncode == 1
