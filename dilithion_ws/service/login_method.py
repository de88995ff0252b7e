"""The call `authenticate`: log in on an open connection, for clients that cannot set headers."""

from __future__ import annotations

from ..auth.denial import Denial
from ..events.hub import EventHub
from ..net.connection_registry import ConnectionRegistry
from ..rpc.context import CallContext
from ..rpc.method import Method, MethodOptions
from .access_control import AccessControl

__all__ = ["LoginMethod"]


class LoginMethod:
    """Logs clients in.

    Args:
        access: verifies passwords.
        events: ends subscriptions that the new user may not have.
        registry: the open connections, of which some end when their token expires.
    """

    def __init__(self, access: AccessControl, events: EventHub, registry: ConnectionRegistry) -> None:
        self._access = access
        self._events = events
        self._registry = registry

    def method(self) -> Method:
        """Return the method `authenticate`."""
        options = MethodOptions(blocking=True, summary="Log in with user and password", is_login=True, is_public=True)
        return Method("authenticate", self.authenticate, options)

    def authenticate(self, context: CallContext, user: str, password: str) -> dict[str, str | None]:
        """Log in with user and password"""
        session = context.session
        if not self._access.requires_login:
            return {"user": None, "role": "admin"}
        authenticator = self._access.authenticator
        result = authenticator.log_in(session, user, password)
        if isinstance(result, Denial):
            if result.close_after is not None:
                session.close_after = result.close_after
            raise result.to_rpc_error()
        self._events.recheck_rights(session)
        if session.is_authorized:  # otherwise the user was removed meanwhile, and the connection is closed for that
            self._registry.recheck_deadline(session.connection_id)
        return {"user": session.user, "role": result.role}
