"""Users and certificate read again while the server runs; what can't be used leaves the old in use."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..auth.credential_files import CredentialFiles
from ..errors import ConfigError, NotRunningError
from ..net.tls import TlsContext
from ..rpc.context import Session
from .authenticator import Authenticator

__all__ = ["Reloader"]

logger = logging.getLogger("dilithion_ws")


class Reloader:
    """Reads the files of one running server again. Thread-safe, and safe in a signal handler.

    Args:
        files: where they are, and the audit log.
        logins: gets the users.
        tls: reads the certificate; None where there is none.
        sessions: the open sessions at this moment; raises NotRunningError where the server has stopped.
    """

    def __init__(
        self,
        files: CredentialFiles,
        logins: Authenticator,
        tls: TlsContext | None,
        sessions: Callable[[], list[Session]],
    ) -> None:
        self._files = files
        self._logins = logins
        self._tls = tls
        self._sessions = sessions
        self._reloading = threading.RLock()  # guards that of two reloads the later one's users stay; SIGHUP may nest

    def reload(self) -> bool:
        """Reads them again; whether all could be read."""
        results = [self._reload("users", self._reload_users)]
        if self._tls is not None:
            results.append(self._reload("certificate", self._tls.reload))
        return all(results)

    def _reload(self, what: str, load: Callable[[], None]) -> bool:
        try:
            load()
        except NotRunningError:
            return False  # it has stopped meanwhile
        except ConfigError as error:
            logger.error("reload failed, the old %s stays in use: %s", what, error)
            self._files.audit.note("reload failed", what=what)
            return False
        logger.info("reloaded: %s", what)
        self._files.audit.note("reload", what=what)
        return True

    def _reload_users(self) -> None:
        with self._reloading:
            self._logins.replace_directory(self._files.load(), self._sessions)
