"""The OpenRPC document: all methods that a caller may call, made from their type hints and docstrings.

See https://spec.open-rpc.org. Topics are not part of OpenRPC and stand in `x-topics`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from .._version import __version__
from ..events.hub import EventHub
from ..events.topic import Topic
from ..rpc.context import CallContext, Session
from ..rpc.method import Method
from ..rpc.passthrough import WILDCARD
from ..rpc.table import RpcTable

__all__ = ["OpenRpcDocument"]

_VERSION = "1.3.2"
_TITLE = "Dilithion RPC"
_PLACE = "#/components/schemas/{name}"


class OpenRpcDocument:
    """Describes what there is to whom it is for.

    Args:
        rpc: the host's methods.
        own: the server's own.
        may_call: whether a session may call a method.
        events: the topics.
    """

    def __init__(
        self,
        rpc: RpcTable,
        own: Mapping[str, Method],
        may_call: Callable[[Session, Method], bool],
        events: EventHub,
    ) -> None:
        self._rpc = rpc
        self._own = own
        self._may_call = may_call
        self._events = events

    def method(self) -> Method:
        """The call `rpc.discover`, which the standard names so (section Service Discovery)."""
        method = Method("rpc.discover", self._discover, None, None, "Describe all methods that you may call")
        method.need = 0
        return method

    def _discover(self, context: CallContext) -> dict[str, Any]:
        """Describe all methods that you may call"""
        return self.document(context.session)

    def document(self, session: Session) -> dict[str, Any]:
        """The document for a session."""
        methods = {**self._rpc.methods(), **self._own}
        methods.pop(WILDCARD, None)  # a name that stands for others
        allowed = [method for _, method in sorted(methods.items()) if self._may_call(session, method)]
        schemas = _Schemas()
        described = [_describe(method, schemas) for method in allowed]
        topics = [_topic(topic, schemas) for topic in self._events.topics() if self._events.may_read(session, topic)]
        return {
            "openrpc": _VERSION,
            "info": {"title": _TITLE, "version": __version__},
            "methods": described,
            "components": {"schemas": schemas.components},
            "x-topics": topics,
        }


class _Schemas:
    """JSON Schemas of types; those with a name are kept in one place."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a type; of one that has none, the schema that takes everything."""
        try:
            (schema,), components = msgspec.json.schema_components([kind], ref_template=_PLACE)
        except Exception:
            return {}
        self.components.update(components)
        return dict(schema)


def _describe(method: Method, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": method.name,
        "summary": method.summary,
        "description": method.description,
        "params": [_param(parameter, schemas) for parameter in method.binder.takes],
        "result": {"name": "result", "schema": schemas.of(method.binder.returns)},
        "paramStructure": "either",
    }
    if method.permission is not None:
        described["x-permission"] = method.permission
    return described


def _param(parameter: inspect.Parameter, schemas: _Schemas) -> dict[str, Any]:
    required = parameter.default is inspect.Parameter.empty
    schema = schemas.of(parameter.annotation)
    if not required:
        try:
            schema = {**schema, "default": msgspec.to_builtins(parameter.default)}
        except Exception:
            pass  # a default that JSON can't say is left out
    return {"name": parameter.name, "required": required, "schema": schema}


def _topic(topic: Topic, schemas: _Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": topic.name,
        "permission": topic.permission,
        "mode": topic.mode,
        "filters": list(topic.filters),
    }
    if topic.schema is not None:
        found["schema"] = schemas.of(topic.schema)
    return found
