"""The OpenRPC document: all methods that a caller may call, generated from their type hints and docstrings.

See the OpenRPC specification 1.3.2. Topics are not part of it; they are in `x-topics`.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from typing import Any

import msgspec

from .._version import __version__
from ..events.hub import EventHub
from ..events.topic import Topic
from ..rpc.context import CallContext
from ..rpc.method import Method, MethodOptions
from ..rpc.passthrough import WILDCARD
from ..rpc.table import RpcTable
from ..session import Session
from ..util.thread_contracts import any_thread
from .access_control import AccessControl

__all__ = ["OpenRpcDocument"]

_OPENRPC_VERSION = "1.3.2"
_TITLE = "Dilithion RPC"
_REF_TEMPLATE = "#/components/schemas/{name}"
_MAX_DOCUMENTS = 32
_DISCOVER = "Describe all methods that you may call"


class OpenRpcDocument:
    """Generates the document for each caller.

    Args:
        rpc: the host's methods.
        builtin: the server's own methods.
        access: decides which of them a caller may call.
        events: the topics.
    """

    def __init__(self, rpc: RpcTable, builtin: Mapping[str, Method], access: AccessControl, events: EventHub) -> None:
        self._rpc = rpc
        self._builtin = dict(builtin)
        self._access = access
        self._events = events
        self._lock = threading.Lock()  # guards the two below
        self._registered: dict[str, Method] = {}
        self._documents: dict[tuple[Any, ...], dict[str, Any]] = {}
        options = MethodOptions(blocking=True, summary=_DISCOVER, is_public=True)
        self.method = Method("rpc.discover", self.discover, options)
        self._builtin[self.method.name] = self.method

    @any_thread
    def discover(self, context: CallContext) -> dict[str, Any]:
        """Describe all methods that you may call"""
        return self.render(context.session)

    @any_thread
    def render(self, session: Session) -> dict[str, Any]:
        """Return the document for a session. It is made once for all sessions with the same rights."""
        registered = self._rpc.methods()
        topics = tuple(topic.name for topic in self._events.topics() if self._events.may_read(session, topic))
        methods = session.token.limits.methods if session.token is not None else None
        key = session.rights, session.is_authorized, methods, topics
        with self._lock:
            if self._registered != registered or len(self._documents) > _MAX_DOCUMENTS:
                self._documents.clear()
                self._registered = dict(registered)
            document = self._documents.get(key)
        if document is None:
            document = self._render(session)
            with self._lock:
                if self._registered == registered:  # otherwise a method was registered meanwhile
                    self._documents[key] = document
        return document

    def _render(self, session: Session) -> dict[str, Any]:
        methods = {**self._rpc.methods(), **self._builtin}
        methods.pop(WILDCARD, None)  # it stands for methods whose names are not known
        allowed = [method for _, method in sorted(methods.items()) if self._access.may_call(session, method)]
        schemas = _Schemas()
        described = [_describe(method, schemas) for method in allowed]
        topics = [
            _describe_topic(topic, schemas) for topic in self._events.topics() if self._events.may_read(session, topic)
        ]
        return {
            "openrpc": _OPENRPC_VERSION,
            "info": {"title": _TITLE, "version": __version__},
            "methods": described,
            "components": {"schemas": schemas.components},
            "x-topics": topics,
        }


class _Schemas:
    """JSON schemas of types. Those of named types are collected in `components`."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}

    def schema_of(self, kind: Any) -> dict[str, Any]:
        """Return the schema of a type, or the schema that accepts everything if it has none."""
        try:
            (schema,), components = msgspec.json.schema_components([kind], ref_template=_REF_TEMPLATE)
        except Exception:
            return {}
        self.components.update(components)
        return dict(schema)


def _describe(method: Method, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": method.name,
        "summary": method.summary,
        "description": method.description,
        "params": [_describe_param(parameter, schemas) for parameter in method.binder.parameters],
        "result": {"name": "result", "schema": schemas.schema_of(method.binder.return_type)},
        "paramStructure": "either",
    }
    if method.permission is not None:
        described["x-permission"] = method.permission
    return described


def _describe_param(parameter: inspect.Parameter, schemas: _Schemas) -> dict[str, Any]:
    required = parameter.default is inspect.Parameter.empty
    schema = schemas.schema_of(parameter.annotation)
    if not required:
        try:
            schema = {**schema, "default": msgspec.to_builtins(parameter.default)}
        except Exception:
            pass  # a default that JSON cannot represent is left out
    return {"name": parameter.name, "required": required, "schema": schema}


def _describe_topic(topic: Topic, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": topic.name,
        "permission": topic.permission,
        "mode": topic.mode.value,
        "filters": list(topic.filters),
    }
    if topic.schema is not None:
        described["schema"] = schemas.schema_of(topic.schema)
    return described
