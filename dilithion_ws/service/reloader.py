"""Read users and certificate again while the server runs. What cannot be used leaves the previous one in use."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..auth.authenticator import Authenticator
from ..auth.credential_files import CredentialFiles
from ..errors import ConfigError
from ..events.hub import EventHub
from ..net.connection_registry import ConnectionRegistry
from ..net.tls import TlsContext
from ..util.thread_contracts import owner_only

__all__ = ["Reloader"]

logger = logging.getLogger("dilithion_ws")


class Reloader:
    """Reloads the files of one running server, in the thread of its watcher.

    Args:
        files: the users file, and the audit log.
        authenticator: gets the users.
        tls: reads the certificate, or None.
        registry: the open connections.
        events: ends subscriptions that a user may not have any more.
    """

    def __init__(
        self,
        files: CredentialFiles,
        authenticator: Authenticator,
        tls: TlsContext | None,
        registry: ConnectionRegistry,
        events: EventHub,
    ) -> None:
        self._files = files
        self._authenticator = authenticator
        self._tls = tls
        self._registry = registry
        self._events = events

    @owner_only
    def reload(self) -> bool:
        """Reload everything. Return whether all of it could be used. The log says what could not."""
        results = [self._reload("users", self._reload_users)]
        if self._tls is not None:
            results.append(self._reload("certificate", self._tls.reload))
        return all(results)

    def _reload(self, what: str, load: Callable[[], None]) -> bool:
        try:
            load()
        except ConfigError as error:
            logger.error("reload failed, the old %s stays in use: %s", what, error)
            self._files.audit.record("reload failed", what=what)
            return False
        logger.info("reloaded: %s", what)
        self._files.audit.record("reload", what=what)
        return True

    def _reload_users(self) -> None:
        """Use the new users, then give each open session the rights that its user has now.

        What was published for a removed user is deleted: the next user of that name must not read it.

        The sessions are listed after the directory was replaced: a session that opens later has seen the new users.
        """
        removed = self._authenticator.replace_directory(self._files.load_users())
        for name in removed:
            self._events.forget_user(name)
        for session in self._authenticator.refresh_all(self._registry.sessions()):
            self._events.recheck_rights(session)
            close_after = session.close_after  # read once: the leader may act on it at any time
            if close_after is not None:
                self._registry.close_when_idle(session.connection_id, close_after)
            elif session.token is not None:
                self._registry.recheck_deadline(session.connection_id)
