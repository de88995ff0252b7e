"""A wallet's seed as 24 words that can be read aloud. The words are of the development node alone."""

from __future__ import annotations

from .primitives import digest

__all__ = ["seed_of_words", "words_of_seed"]

_ENDS = ("n", "r", "s", "l", "m", "t", "k", "d")
_SYLLABLES = tuple(consonant + vowel for consonant in "bdfg" for vowel in "aeio")
_SYLLABLES_LATER = tuple(consonant + vowel for consonant in "kmpz" for vowel in "aeio")
_BITS = 11


def words_of_seed(seed: bytes) -> str:
    """Return the words of 32 bytes, with a checksum of one byte."""
    number = int.from_bytes(seed + digest(seed)[:1], "big")
    words = []
    for _ in range(24):
        number, value = divmod(number, 1 << _BITS)
        words.append(_SYLLABLES[value >> 7] + _SYLLABLES_LATER[value >> 3 & 15] + _ENDS[value & 7])
    return " ".join(reversed(words))


def seed_of_words(text: str) -> bytes | None:
    """Return the seed of some words, or None if they are not those of a seed."""
    words, number = text.lower().split(), 0
    if len(words) != 24:
        return None
    for word in words:
        try:
            first, second, end = _SYLLABLES.index(word[:2]), _SYLLABLES_LATER.index(word[2:4]), _ENDS.index(word[4:])
        except ValueError:
            return None
        number = number << _BITS | first << 7 | second << 3 | end
    data = number.to_bytes(33, "big")
    return data[:32] if digest(data[:32])[:1] == data[32:] else None
