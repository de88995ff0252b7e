"""A real node of Bitcoin Core's family: Debian's litecoind on a chain of its own."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from . import free_port, wait_for

needs_litecoind = pytest.mark.skipif(
    shutil.which("litecoind") is None, reason="needs Litecoin Core (apt-get install litecoind)"
)


class Litecoin:
    """A node in regtest, with its data in a folder.

    Args:
        folder: for its data.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.cookie = folder / "regtest" / ".cookie"
        self._process: subprocess.Popen[bytes] | None = None
        self.account: bytes | None = None
        self.start()

    def start(self, *options: str) -> None:
        """Starts it, or starts it again, and waits until it answers."""
        given = dict(option.lstrip("-").split("=", 1) for option in options if "=" in option)
        self.account = f"{given['rpcuser']}:{given['rpcpassword']}".encode() if "rpcuser" in given else None
        self._process = subprocess.Popen(
            [
                "litecoind",
                "-regtest",
                f"-datadir={self.folder}",
                f"-rpcport={self.port}",
                "-server",
                "-listen=0",
                "-fallbackfee=0.001",
                "-dbcache=4",
                "-printtoconsole=0",
                *options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._answers, 30, "litecoind's answer")

    def _answers(self) -> bool:
        try:
            self.call("getblockcount")
        except (OSError, RuntimeError):
            return False
        return True

    def kill(self) -> None:
        """Ends it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def hang(self) -> None:
        """Has it stand still: it accepts connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Ends that."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Has it end by itself."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)

    def call(self, method: str, *params: Any) -> Any:
        """Asks the node itself."""
        body = json.dumps({"method": method, "params": params, "id": 1}).encode()
        status, answer = self.post("/", body)
        for _ in range(100):
            if answer != "Work queue depth exceeded":
                break
            time.sleep(0.05)
            status, answer = self.post("/", body)
        if status != 200:
            raise RuntimeError(answer)
        return answer["result"]

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        """Sends the node itself a body. Returns status and answer."""
        credentials = self.cookie.read_bytes() if self.account is None else self.account
        account = base64.b64encode(credentials).decode()
        request = urllib.request.Request(self.url + path, body, {"Authorization": f"Basic {account}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            text = error.read()
            try:
                return error.code, json.loads(text)
            except ValueError:  # a page, such as that of a full queue
                return error.code, text.decode()

    def batch(self, calls: list[tuple[str, Any]], path: str = "/") -> list[Any]:
        """Asks the node itself, many calls at once. Returns the answers."""
        answers: list[Any] = []
        for at in range(0, len(calls), 500):
            some = [{"method": method, "params": params, "id": 1} for method, params in calls[at : at + 500]]
            answers += self.post(path, json.dumps(some).encode())[1]
        assert [answer for answer in answers if answer["error"]] == []
        return answers

    def chain(self) -> list[str]:
        """The hashes of its best chain, from the first block on."""
        return [self.call("getblockhash", height) for height in range(self.call("getblockcount") + 1)]


def with_wallets(folder: Path, blocks: int) -> Litecoin:
    """Return a node with two wallets, of which `a` has a balance of 50, and some blocks."""
    node = Litecoin(folder)
    for name in ("a", "b"):
        node.call("createwallet", name)
    address = node.post("/wallet/a", b'{"method":"getnewaddress","id":1}')[1]["result"]
    node.call("generatetoaddress", 1, address)
    foreign = node.post("/wallet/b", b'{"method":"getnewaddress","id":1}')[1]["result"]
    node.call("generatetoaddress", blocks - 1, foreign)
    return node
