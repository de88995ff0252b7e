"""What msgspec does not do with params: refuse unknown members of nested objects and texts like "NaN" for a Decimal, and
read bytes from hexadecimal digits.

At registration the type hints of a function become a tree of the places that need a look. Most functions have none, and
their calls cost nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, DecimalException
from typing import Any

import msgspec
from msgspec import inspect as types

__all__ = ["NestedParams", "ParamError"]

_decode_exactly = msgspec.json.Decoder(float_hook=Decimal).decode
_decode_texts = msgspec.json.Decoder(float_hook=lambda text: None).decode  # numbers are not looked at
_encode = msgspec.json.Encoder(decimal_format="number").encode
_MOST_NAMES = 12
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")  # of JSON
_ARRAYS = (types.ListType, types.SetType, types.FrozenSetType, types.VarTupleType)
_BYTES = (types.BytesType, types.ByteArrayType, types.MemoryViewType)
_OBJECTS = (types.DataclassType, types.TypedDictType, types.StructType)


class ParamError(Exception):
    """A param that its type hint would accept, and must not."""


class _Place:
    """A place in the params, and what to look at there.

    Attributes:
        members: of an object, by name: the place of each, or None if there is nothing to look at.
        tag: name and value of the member that says of which type of a union an object is, or None. Of an array it is
            the index.
        values: of the values of an object that may have any member.
        has_decimal_keys: whether the names of those are numbers.
        items: of the items of an array.
        elements: of each element of an array with a fixed length.
        is_bytes: whether a text is hexadecimal digits.
        is_decimal: whether a text is a number, as JSON has it.
        choices: of the types of a union; the others are unused then.
    """

    def __init__(self) -> None:
        self.members: dict[str, _Place | None] | None = None
        self.tag: tuple[str | int, Any] | None = None
        self.values: _Place | None = None
        self.has_decimal_keys = False
        self.items: _Place | None = None
        self.elements: list[_Place | None] = []
        self.is_bytes = False
        self.is_decimal = False
        self.choices: list[_Place] = []

    def takes(self, value: Any) -> bool:
        """Whether a value is of the type of this place, if it is of any type of its union."""
        if isinstance(value, dict):
            if self.tag is not None:
                return bool(value.get(self.tag[0]) == self.tag[1])
            return self.members is not None or self.values is not None or self.has_decimal_keys
        if isinstance(value, list):
            if self.tag is not None:
                return bool(self.tag[0] == 0 and value and value[0] == self.tag[1])
            return self.items is not None or bool(self.elements)
        return isinstance(value, str) and (self.is_bytes or self.is_decimal)


class NestedParams:
    """Looks at the params of one function.

    Args:
        kinds: the type hints of its parameters.
        refuses_unknown: whether members that a nested type does not have are refused.

    Attributes:
        is_needed: whether there is anything to look at.
        has_bytes: whether texts are replaced.

    Raises:
        TypeError: a type is none that JSON can be converted to.
    """

    def __init__(self, kinds: Sequence[Any], refuses_unknown: bool) -> None:
        self._refuses_unknown = refuses_unknown
        self._known: dict[int, _Place] = {}  # by identity of a description; a type may contain itself
        self.has_bytes = False
        descriptions = types.multi_type_info(kinds)
        self._places = [self._place(description) for description in descriptions]
        self.is_needed = any(place is not None for place in self._places)

    def look_at(self, params: bytes, names: Sequence[str]) -> bytes:
        """Return the params, with texts of hexadecimal digits as msgspec reads bytes.

        Args:
            params: an array or an object of JSON.
            names: of the parameters, in the order of the hints.

        Raises:
            ParamError: a member is unknown, or a text is not hexadecimal, or not a number.
        """
        try:
            value = (_decode_exactly if self.has_bytes else _decode_texts)(params)
        except DecimalException:
            raise ParamError("a number is too large, or too small") from None
        if not isinstance(value, (dict, list)):
            return params
        pairs = value.items() if isinstance(value, dict) else zip(names, value, strict=False)
        places = dict(zip(names, self._places, strict=True))
        found = [(name, self._look(places.get(name), item, name)) for name, item in pairs]
        if not self.has_bytes:
            return params
        return _encode(dict(found) if isinstance(value, dict) else [item for _, item in found] + value[len(found) :])

    def _look(self, place: _Place | None, value: Any, *path: Any) -> Any:
        """Return a value with bytes in the place of texts. `path` is where it is: its name, and members and indexes."""
        if place is not None and place.choices:
            place = next((one for one in place.choices if one.takes(value)), None)
        if place is None:
            return value
        if isinstance(value, str):
            if place.is_decimal:
                _check_number(value, *path)
            return _from_hex(value, path) if place.is_bytes else value
        if isinstance(value, list):
            if place.elements:
                rest = [None] * (len(value) - len(place.elements))
                places = zip([*place.elements, *rest], value, strict=False)
                return [self._look(one, item, *path, at) for at, (one, item) in enumerate(places)]
            if place.items is None:
                return value
            if place.items.is_decimal:  # without a list of the same items, since there may be many
                for at, item in enumerate(value):
                    if item.__class__ is str:
                        _check_number(item, *path, at)
                return value
            return [self._look(place.items, item, *path, at) for at, item in enumerate(value)]
        if isinstance(value, dict):
            return self._look_at_object(place, value, path)
        return value

    def _look_at_object(self, place: _Place, value: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
        members = place.members
        if members is None:
            for name in value if place.has_decimal_keys else ():
                _check_number(name, *path, name)
            if place.values is None:
                return value
            return {name: self._look(place.values, item, *path, name) for name, item in value.items()}
        unknown = [name for name in value if name not in members]
        if unknown and self._refuses_unknown:
            names = ", ".join(f"`{name}`" for name in list(members)[:_MOST_NAMES])
            more = ", …" if len(members) > _MOST_NAMES else ""
            where = f"`{_shown(path)}`, which takes {names or 'none'}{more}"
            raise ParamError(f"unknown member `{unknown[0][:64]}` in {where}")
        return {name: self._look(members.get(name), item, *path, name) for name, item in value.items()}

    # At registration

    def _place(self, kind: types.Type) -> _Place | None:
        """Return the place of a type, or None if there is nothing to look at in it."""
        if isinstance(kind, types.Metadata):
            return self._place(kind.type)
        if isinstance(kind, types.CustomType) and kind.cls is not object:
            raise TypeError(
                f"{kind.cls.__name__} can't be converted from JSON; use a dataclass, a TypedDict, or a "
                "msgspec.Struct, or take a dict and convert it in the function"
            )
        if id(kind) in self._known:
            return self._known[id(kind)]
        place = self._known[id(kind)] = _Place()
        if self._fill(place, kind):
            return place
        del self._known[id(kind)]
        return None

    def _fill(self, place: _Place, kind: types.Type) -> bool:
        """Describe a type. Return whether there is something to look at."""
        if isinstance(kind, _BYTES):
            place.is_bytes = self.has_bytes = True
        elif isinstance(kind, types.DecimalType):
            place.is_decimal = True
        elif isinstance(kind, _ARRAYS):
            place.items = self._place(kind.item_type)
        elif isinstance(kind, types.TupleType):
            place.elements = [self._place(item) for item in kind.item_types]
        elif isinstance(kind, types.NamedTupleType) or (isinstance(kind, types.StructType) and kind.array_like):
            place.elements = [self._place(field.type) for field in kind.fields]
            if isinstance(kind, types.StructType) and kind.tag_field is not None:
                place.elements.insert(0, None)
                place.tag = 0, kind.tag
        elif isinstance(kind, _OBJECTS):
            place.members = {}
            if isinstance(kind, types.StructType) and kind.tag_field is not None:
                place.tag = kind.tag_field, kind.tag
                place.members[kind.tag_field] = None
            place.members.update((field.encode_name, self._place(field.type)) for field in kind.fields)
            return self._refuses_unknown or any(place.members.values())
        elif isinstance(kind, types.DictType):
            key_type = kind.key_type.type if isinstance(kind.key_type, types.Metadata) else kind.key_type
            if isinstance(key_type, _BYTES):
                raise TypeError("bytes can't be the keys of an object; take texts and convert them")
            place.has_decimal_keys = isinstance(key_type, types.DecimalType)
            place.values = self._place(kind.value_type)
        elif isinstance(kind, types.UnionType):
            place.choices = [one for one in map(self._place, kind.types) if one is not None]
        is_text = place.is_bytes or place.is_decimal
        return bool(
            is_text or place.has_decimal_keys or place.items or place.values or place.choices or any(place.elements)
        )


def _check_number(text: str, *path: Any) -> None:
    if not _NUMBER.fullmatch(text):
        raise ParamError(f"`{_shown(path)}` is not a number")


def _shown(path: tuple[Any, ...]) -> str:
    """Return where a value is: `options.outputs[3]`."""
    return str(path[0]) + "".join(f"[{one}]" if isinstance(one, int) else f".{one[:64]}" for one in path[1:])


def _from_hex(text: str, path: tuple[Any, ...]) -> bytes:
    """Return bytes that the text has as hexadecimal digits. msgspec writes them as it reads them."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) * 2 != len(text):  # `fromhex` skips spaces
        raise ParamError(f"`{_shown(path)}` is not a text of hexadecimal digits, two for each byte")
    return found
