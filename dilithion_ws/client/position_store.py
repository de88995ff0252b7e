"""A file that remembers where subscriptions stand, across restarts of a program."""

from __future__ import annotations

import os
import tempfile
import threading

import msgspec

from ..util.thread_contracts import any_thread
from .places import Place, as_place, place_as_json

__all__ = ["PositionStore"]


class PositionStore:
    """Keeps the places of subscriptions, by name, in a file of JSON. Thread-safe.

    The file is replaced as a whole, so it is never half written. Only one store may save to a file. Save a place after
    what its event demands was done: a crash in between repeats that event, and loses none.

    Args:
        path: of the file. It is made at the first `save`.

    Example:
        >>> store = PositionStore("wallet.positions")  # doctest: +SKIP
        >>> for event in client.subscribe("blocks", since=store.load("blocks")):  # doctest: +SKIP
        ...     store.save("blocks", event.since)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._lock = threading.Lock()  # guards the file

    @any_thread
    def load(self, name: str) -> Place | None:
        """Return a place that was saved, or None. Raise ValueError if the file cannot be understood."""
        with self._lock:
            found = self._read().get(name)
        return None if found is None else as_place(found)

    @any_thread
    def save(self, name: str, place: Place) -> None:
        """Save a place under a name. Raise OSError if the file cannot be written."""
        with self._lock:
            places = {**self._read(), name: place_as_json(place)}
            folder, name_of_file = os.path.split(self._path)
            fd, temporary = tempfile.mkstemp(prefix=f".{name_of_file}.", dir=folder or ".")
            try:
                with open(fd, "wb") as file:
                    file.write(msgspec.json.encode(places))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self._path)
            except BaseException:
                os.unlink(temporary)
                raise

    def _read(self) -> dict[str, dict[str, str | int]]:
        try:
            with open(self._path, "rb") as file:
                return msgspec.json.decode(file.read(), type=dict[str, dict[str, str | int]])
        except FileNotFoundError:
            return {}
        except msgspec.DecodeError as error:
            raise ValueError(f"{self._path} is not a file of positions: {error}") from None
