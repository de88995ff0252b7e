"""Redis as people run it: behind Sentinels, as a Cluster, with TLS, on a socket."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from . import free_port, wait_for
from .certificates import Authority

__all__ = ["cluster", "running", "sentinels", "tls_redis"]


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@contextmanager
def running(folder: Path, *options: str, port: int, client: Any = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, and wait until it answers a client: one of its port on loopback by default."""
    folder.mkdir(parents=True, exist_ok=True)
    common = ["--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), *common, *options], stdout=subprocess.DEVNULL, cwd=folder
    )
    try:
        with client or redis.Redis(port=port) as asking:
            wait_for(lambda: _answers(asking))
        yield process
    finally:
        process.kill()
        process.wait(10)


@contextmanager
def tls_redis(folder: Path, authority: Authority) -> Iterator[str]:
    """Run a server that accepts only TLS, and only clients with a certificate. Yield its URL."""
    port = free_port()
    files = {"cert-file": authority.certificate, "key-file": authority.key, "ca-cert-file": authority.root}
    options = [
        "--tls-port",
        str(port),
        *(part for name, path in files.items() for part in (f"--tls-{name}", str(path))),
    ]
    url = f"rediss://localhost:{port}/0?ssl_ca_certs={authority.root}"
    mine = f"{url}&ssl_certfile={authority.certificate}&ssl_keyfile={authority.key}"
    with running(folder, *options, port=0, client=redis.Redis.from_url(mine)):
        yield mine


class Sentinels:
    """A master, its replica, and a Sentinel that makes the replica the master when the master is silent."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        ports = self.ports = [free_port(), free_port()]
        password = ["--requirepass", "secret", "--masterauth", "secret"]
        self.master = stack.enter_context(
            running(folder / "1", *password, port=ports[0], client=redis.Redis(port=ports[0], password="secret"))
        )
        replica = [*password, "--replicaof", "127.0.0.1", str(ports[0])]
        second = redis.Redis(port=ports[1], password="secret")
        stack.enter_context(running(folder / "2", *replica, port=ports[1], client=second))
        self.second = redis.Redis(port=ports[1], password="secret")
        stack.callback(self.second.close)
        wait_for(lambda: self._info().get("master_link_status") == "up", 20)
        watched = folder / "sentinel.conf"
        port = free_port()
        watched.write_text(
            f"sentinel monitor node 127.0.0.1 {ports[0]} 1\nsentinel auth-pass node secret\n"
            "sentinel down-after-milliseconds node 500\nsentinel failover-timeout node 3000\nrequirepass watching\n"
        )
        process = subprocess.Popen(
            ["redis-server", str(watched), "--port", str(port), "--bind", "127.0.0.1", "--sentinel"],
            stdout=subprocess.DEVNULL,
        )
        stack.callback(process.wait, 10)
        stack.callback(process.kill)
        self.url = f"redis+sentinel://:secret@127.0.0.1:{free_port()},127.0.0.1:{port}/node/0"
        self.url += "?sentinel_username=default&sentinel_password=watching"  # that of the servers is another one
        asked = redis.Redis(port=port, password="watching")
        stack.callback(asked.close)
        wait_for(lambda: _answers(asked) and self._knows_the_replica(asked), 30)

    def _knows_the_replica(self, sentinel: Any) -> bool:
        return int(sentinel.sentinel_master("node")["num-slaves"]) == 1

    def _info(self) -> dict[str, Any]:
        found: Any = self.second.info("replication")
        return dict(found)

    def fail(self) -> None:
        """End the master, and wait for the new one."""
        self.master.kill()
        self.master.wait(10)
        wait_for(lambda: self._info()["role"] == "master", 30)


@contextmanager
def sentinels(folder: Path) -> Iterator[Sentinels]:
    with ExitStack() as stack:
        yield Sentinels(folder, stack)


class Cluster:
    """Three masters with a replica each."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        ports = [free_port() for _ in range(6)]
        self._processes = {}
        for port in ports:
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--appendonly", "yes"]
            # The port of the bus would be 10,000 higher, which may be none.
            options += ["--cluster-port", str(free_port())]
            self._processes[port] = stack.enter_context(running(folder / str(port), *options, port=port))
        hosts = [f"127.0.0.1:{port}" for port in ports]
        create = ["redis-cli", "--cluster", "create", *hosts, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(create, check=True, stdout=subprocess.DEVNULL, timeout=60)
        self.url = f"redis+cluster://{hosts[0]},{hosts[3]}"
        self._ports = ports
        wait_for(lambda: all(self._is_whole(port) for port in ports), 30)

    def _is_whole(self, port: int) -> bool:
        with redis.Redis(port=port) as client:
            info: Any = client.execute_command("CLUSTER", "INFO")
        return b"cluster_state:ok" in info

    def node_of(self, key: str) -> int:
        """The port of the master that has a key."""
        with redis.cluster.RedisCluster(host="127.0.0.1", port=self._alive()) as whole:
            node: Any = whole.get_node_from_key(key)
            return int(node.port)

    def _alive(self) -> int:
        return next(port for port, process in self._processes.items() if process.poll() is None)

    def fail(self, port: int) -> None:
        """End a master, and wait until its replica has taken over."""
        self._processes[port].kill()
        self._processes[port].wait(10)
        wait_for(
            lambda: any(self._is_whole(other) and self._has_moved(other, port) for other in self._others(port)), 30
        )

    def _others(self, port: int) -> list[int]:
        return [other for other in self._ports if other != port and self._processes[other].poll() is None]

    def _has_moved(self, asked: int, gone: int) -> bool:
        with redis.Redis(port=asked) as client:
            slots: Any = client.execute_command("CLUSTER", "SLOTS")
        return all(one[2][1] != gone for one in slots)

    def move_slot(self, key: str, source: int, target: int) -> None:
        """Move the slot of a key from one master to another, with all keys in it."""
        with redis.Redis(port=source) as old, redis.Redis(port=target) as new:
            slot: Any = old.execute_command("CLUSTER", "KEYSLOT", key)
            old_id, new_id = (client.execute_command("CLUSTER", "MYID") for client in (old, new))
            new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
            old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
            while keys := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                old.execute_command("MIGRATE", "127.0.0.1", target, "", 0, 5000, "KEYS", *keys)
            for client in (new, old):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(folder, stack)
