"""The syntax of `dilithion.conf`, which is the node's.

One `key=value` a line; keys in any case; `#` and `;` begin a comment; one pair of double quotes is stripped; `[section]`
lines are ignored; of a repeated key the last value counts. One rule is better than the node's: inside quotes, `#` and `;`
belong to the value, so a password may contain them. Keys that the table does not list belong to the node and are ignored.
"""

from __future__ import annotations

from collections.abc import Collection

from ..errors import ConfigError

__all__ = ["is_known_key", "parse_file"]


def parse_file(text: str, path: str, keys: Collection[str], prefix: str) -> dict[str, tuple[str, int]]:
    """Return value and line number of each known key in the text of a file.

    Args:
        text: the contents of the file.
        path: its name, for messages.
        keys: the known keys.
        prefix: the prefix of all our keys: an unknown key that begins with it is a mistake.

    Raises:
        ConfigError: an unknown key has our prefix, or a line cannot be read.
    """
    found: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        where = f"file {path} line {number}"
        if line.lstrip().startswith(("#", ";", "[")) or not line.strip():
            continue
        key, equals, value = line.partition("=")
        key = key.strip().lower()
        if not equals:
            # A line without "=" is an error only if it names a key of ours; what follows the name may be a secret.
            name = key.split(maxsplit=1)[0]
            if name in keys or name.startswith(prefix):
                raise ConfigError(f"{where}: {name[:64]!r} has no value; expected key=value")
            continue
        if is_known_key(key, where, keys, prefix):
            found[key] = _parse_value(value, where), number
    return found


def is_known_key(key: str, where: str, keys: Collection[str], prefix: str) -> bool:
    """Return whether a key is in the table.

    Raises:
        ConfigError: it is not, but has our prefix; the message suggests a similar key.
    """
    if key in keys:
        return True
    if key.startswith(prefix):
        import difflib  # not before: most files have no such key

        similar = difflib.get_close_matches(key, keys, 1)
        hint = f"; did you mean {similar[0]}?" if similar else ""
        raise ConfigError(f"{where}: unknown key {key[:64]}{hint} (dilithion-ws config --example shows all keys)")
    return False


def _parse_value(text: str, where: str) -> str:
    text = text.strip()
    if text.startswith('"'):
        end = text.find('"', 1)
        if end < 0:
            raise ConfigError(f"{where}: the value has an opening quote and no closing one")
        rest = text[end + 1 :].strip()
        if rest and rest[0] not in "#;":
            raise ConfigError(f"{where}: there is text behind the closing quote")
        return text[1:end]
    for comment in "#;":
        text = text.partition(comment)[0]
    return text.strip()
