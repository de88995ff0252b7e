"""The OpenRPC document: all methods that a caller may call, generated from their type hints and docstrings.

See the OpenRPC specification 1.2.6, which generators of clients know. Topics are not part of it: they are in `x-topics`,
and what their subscribers get in `x-notifications`.
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
from ..util.json import encode_json
from ..util.thread_contracts import any_thread
from .access_control import AccessControl
from .docstrings import describe_arguments

__all__ = ["OpenRpcDocument"]

_OPENRPC_VERSION = "1.2.6"
_NUMBER = {"type": "number"}
_NUMBER_OR_TEXT = {"type": ["number", "string"]}
_HEX = {"type": "string", "pattern": "^([0-9A-Fa-f]{2})*$"}
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
        self._rpc.refresh_description()
        registered = self._rpc.methods()
        topics = tuple(topic.name for topic in self._events.topics() if self._events.may_read(session, topic))
        methods = session.token.limits.methods if session.token is not None else None
        key = session.rights, session.is_authorized, methods, topics, self._rpc.revision
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
        # The names that JSON-RPC reserves for extensions are no identifiers, which generators make of a method's name.
        methods = {name: method for name, method in methods.items() if not name.startswith("rpc.")}
        methods.pop(WILDCARD, None)  # it stands for methods whose names are not known
        described = [method for _, method in sorted(methods.items()) if method.is_described]
        allowed = [method for method in described if self._access.may_call(session, method)]
        schemas = _Schemas()
        topics = [
            _describe_topic(topic, schemas) for topic in self._events.topics() if self._events.may_read(session, topic)
        ]
        return {
            "openrpc": _OPENRPC_VERSION,
            "info": {"title": self._rpc.title, "version": self._rpc.version or __version__},
            "methods": [_describe(method, schemas) for method in allowed],
            "components": {"schemas": schemas.components},
            "x-topics": topics,
            "x-notifications": [_describe_notification(topic) for topic in topics],
        }


class _Schemas:
    """JSON schemas of types. Those of named types are collected in `components`."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}

    def schema_of(self, kind: Any, *, of_param: bool = False) -> dict[str, Any]:
        """Return the schema of a type, or the schema that accepts everything if it has none."""
        try:
            (schema,), components = msgspec.json.schema_components([kind], ref_template=_REF_TEMPLATE)
        except Exception:
            return {}
        self.components.update({name: _as_sent(one, _NUMBER) for name, one in components.items()})
        found: dict[str, Any] = _as_sent(schema, _NUMBER_OR_TEXT if of_param else _NUMBER)
        return found


def _as_sent(schema: Any, decimal: dict[str, Any]) -> Any:
    """Return a schema with those of Decimal and bytes replaced: they are sent as numbers, and as hexadecimal digits."""
    if isinstance(schema, list):
        return [_as_sent(one, decimal) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "string" and schema.get("format") == "decimal":
        others = {name: value for name, value in schema.items() if name not in ("type", "format")}
        return {**decimal, **others}
    if schema.get("contentEncoding") == "base64":
        return {**{name: value for name, value in schema.items() if name != "contentEncoding"}, **_HEX}
    return {name: _as_sent(value, decimal) for name, value in schema.items()}


def _describe(method: Method, schemas: _Schemas) -> dict[str, Any]:
    binder = method.binder
    texts = describe_arguments(method.description)
    by_name = any(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in binder.parameters)
    described: dict[str, Any] = {"name": method.name, "summary": method.summary}
    if method.description.strip() not in ("", method.summary):
        described["description"] = method.description
    described |= {
        "params": [_describe_param(method.name, parameter, schemas, texts) for parameter in binder.parameters],
        "result": {"name": "result", "schema": _titled(f"{method.name}_result", schemas.schema_of(binder.return_type))},
        "paramStructure": "by-name" if by_name else "either",
    }
    if method.permission is not None:
        described["x-permission"] = method.permission
    return described


def _describe_param(
    method: str, parameter: inspect.Parameter, schemas: _Schemas, texts: Mapping[str, str]
) -> dict[str, Any]:
    required = parameter.default is inspect.Parameter.empty
    schema = _titled(f"{method}_{parameter.name}", schemas.schema_of(parameter.annotation, of_param=True))
    if not required:
        try:
            schema = {**schema, "default": msgspec.json.decode(encode_json(parameter.default))}
        except Exception:
            pass  # a default that JSON cannot represent is left out
    described = {"name": parameter.name, "required": required, "schema": schema}
    if parameter.name in texts:
        described["description"] = texts[parameter.name]
    return described


def _titled(title: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with a title, of which generators make a type's name; otherwise that would be a hash."""
    return {"title": title, **schema} if schema and "$ref" not in schema else schema


def _describe_notification(topic: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notification that the subscribers of a topic get, as a method of the client."""
    event = topic.get("schema", {})
    required = [("subscription", {"type": "string"}), ("topic", {"const": topic["name"]}), ("result", event)]
    optional = [
        ("epoch", {"type": "string"}),
        ("seq", {"type": "integer"}),
        ("prev", {"type": "integer"}),
        ("since", {"type": "object"}),
        ("history", {"const": True}),
    ]
    params = [{"name": name, "required": True, "schema": schema} for name, schema in required]
    params += [{"name": name, "required": False, "schema": schema} for name, schema in optional]
    return {"name": "subscription", "paramStructure": "by-name", "params": params}


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
