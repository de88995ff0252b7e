"""A network link in user space: two network namespaces, and a process that delays and drops packets between TUN devices.

It does what the kernel's netem does, also where the kernel has none. TCP on both sides is the kernel's own. It needs
Linux, root, and `ip`.

    with LossyLink(delay=0.15, loss=0.05) as link:
        server = subprocess.Popen([*link.far, "python3", "server.py"])    # listens at link.far_address
        client = subprocess.Popen([*link.near, "python3", "client.py"])
        link.is_down = True                                               # packets vanish, and no end knows
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LossyLink", "has_links"]

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_MOST_BYTES = 65536
_WAIT = 0.05


def has_links() -> bool:
    """Whether this machine lets this process make such links."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
        return os.geteuid() == 0 and subprocess.run(["ip", "netns"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class LossyLink:
    """A link between two namespaces, as long as its `with` block lasts.

    Args:
        delay: seconds for each packet, in each direction.
        jitter: seconds that are added at random, so that packets also change their order.
        loss: share of the packets that are lost.
        rate: bytes per second in each direction; 0 for no limit.
        seed: of the choice of packets.

    Attributes:
        near, far: what a command begins with to run in one of the namespaces.
        far_address: of the far end.
        is_down: whether all packets are lost.
        packets, lost: how many were sent, and how many of them were lost.
    """

    def __init__(self, delay: float, loss: float, jitter: float = 0.0, seed: int = 1, rate: float = 0.0) -> None:
        self._delay, self._loss, self._jitter, self._rate = delay, loss, jitter, rate
        self._chance = random.Random(seed)
        names = [f"{end}{os.getpid()}" for end in ("near", "far")]
        self._names = names
        self.near, self.far = (["ip", "netns", "exec", name] for name in names)
        self.far_address = "10.99.0.2"
        self.is_down = False
        self.packets = self.lost = 0
        self._stopping = False
        self._devices: list[int] = []
        self._thread = threading.Thread(target=self._forward)

    def __enter__(self) -> Self:
        for number, name in enumerate(self._names, start=1):
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            self._devices.append(device)
            fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
            _ip("netns", "add", name)
            _ip("link", "set", name, "netns", name)  # the descriptor stays here
            _ip("-n", name, "address", "add", f"10.99.0.{number}/24", "dev", name)
            for device_name in (name, "lo"):
                _ip("-n", name, "link", "set", device_name, "up")
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping = True
        if self._thread.is_alive():
            self._thread.join()
        for device in self._devices:
            os.close(device)
        for name in self._names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def _forward(self) -> None:
        there = dict(zip(self._devices, reversed(self._devices), strict=True))
        order = itertools.count()
        waiting: list[tuple[float, int, int, bytes]] = []
        free_at = dict.fromkeys(self._devices, 0.0)  # when a direction has sent what came before
        while not self._stopping:
            wait = min(_WAIT, max(0.0, waiting[0][0] - time.monotonic())) if waiting else _WAIT
            for device in select.select(self._devices, [], [], wait)[0]:
                packet = os.read(device, _MOST_BYTES)
                self.packets += 1
                if self.is_down or self._chance.random() < self._loss:
                    self.lost += 1
                    continue
                sent = max(time.monotonic(), free_at[device])
                if self._rate:
                    sent = free_at[device] = sent + len(packet) / self._rate
                due = sent + self._delay + self._chance.random() * self._jitter
                heapq.heappush(waiting, (due, next(order), there[device], packet))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, device, packet = heapq.heappop(waiting)
                try:
                    os.write(device, packet)
                except OSError:
                    self.lost += 1  # a full queue loses packets, too


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
