"""What programs find on other systems than Linux, simulated by hiding what those lack."""

from __future__ import annotations

__all__ = ["WITHOUT"]

_NO_EPOLL = """
import select, selectors
for name in ("epoll", "EPOLLIN"):
    delattr(select, name)
del selectors.EpollSelector
selectors.DefaultSelector = selectors.PollSelector
"""

_NO_POSIX = """
import os, signal, socket, sys
del select.poll, selectors.PollSelector
selectors.DefaultSelector = selectors.SelectSelector
for module, names in (
    (signal, ("SIGHUP", "SIGUSR1", "SIGKILL", "SIGPIPE", "pthread_sigmask", "pthread_kill", "alarm", "setitimer")),
    (os, ("fork", "register_at_fork", "geteuid", "getuid", "fchmod", "chown", "getpgid", "O_NOFOLLOW", "O_NONBLOCK")),
    (socket, ("AF_UNIX", "SO_REUSEPORT", "MSG_DONTWAIT", "TCP_USER_TIMEOUT")),
):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
def socketpair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]
socket.socketpair = socketpair
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
"""

WITHOUT = {"no epoll": _NO_EPOLL, "select only": _NO_EPOLL + _NO_POSIX}
"""By name, the beginning of a program: `no epoll` is about what macOS has, `select only` what Windows has."""
