"""Addresses, transactions and blocks: their bytes and their hashes.

The formats are Bitcoin's, the hash is SHA3-256 as in Dilithion. Hashes are shown byte-reversed, as everywhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

__all__ = [
    "COIN",
    "Block",
    "Coins",
    "BlockHeader",
    "Outpoint",
    "Transaction",
    "TxInput",
    "TxOutput",
    "address_of_script",
    "coins",
    "decode_address",
    "digest",
    "encode_address",
    "merkle_root",
    "script_of_address",
    "target_of_bits",
]

COIN = 100_000_000
"""Ions in one DIL."""

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VERSION = 0x1E
_SCRIPT_HEAD, _SCRIPT_TAIL = bytes.fromhex("76a914"), bytes.fromhex("88ac")


class Coins(Decimal):
    """An amount in DIL. The server writes a subclass of Decimal with all its decimals, never as 1E-8."""

    __slots__ = ()


def coins(ions: int) -> Coins:
    """Return an amount of ions in DIL."""
    return Coins(Decimal(ions).scaleb(-8))


def digest(data: bytes) -> bytes:
    """Return the SHA3-256 hash."""
    return hashlib.sha3_256(data).digest()


def encode_address(key_hash: bytes) -> str:
    """Return the address of a 20-byte hash: Base58Check, 34 characters that begin with D."""
    payload = bytes((_VERSION,)) + key_hash
    number = int.from_bytes(payload + digest(digest(payload))[:4], "big")
    text = ""
    while number:
        number, rest = divmod(number, 58)
        text = _ALPHABET[rest] + text
    return text


def decode_address(address: str) -> bytes | None:
    """Return the 20-byte hash of an address, or None if it is not an address."""
    number = 0
    for character in address:
        at = _ALPHABET.find(character)
        if at < 0 or number >> 200:
            return None
        number = number * 58 + at
    data = number.to_bytes(26, "big")[1:]
    if len(address) != 34 or data[0] != _VERSION or digest(digest(data[:-4]))[:4] != data[-4:]:
        return None
    return data[1:21]


def script_of_address(address: str) -> bytes | None:
    """Return the output script that pays to an address, or None if it is not an address."""
    key_hash = decode_address(address)
    return None if key_hash is None else _SCRIPT_HEAD + key_hash + _SCRIPT_TAIL


def address_of_script(script: bytes) -> str | None:
    """Return the address that a script pays to, or None."""
    if len(script) == 25 and script.startswith(_SCRIPT_HEAD) and script.endswith(_SCRIPT_TAIL):
        return encode_address(script[3:23])
    return None


@dataclass(frozen=True, order=True)
class Outpoint:
    """One output of one transaction."""

    txid: str
    index: int


@dataclass(frozen=True)
class TxInput:
    """The output that is spent, and the signature for it."""

    source: Outpoint
    script: bytes


@dataclass(frozen=True)
class TxOutput:
    """An amount in ions, and who may spend it."""

    value: int
    script: bytes

    @property
    def address(self) -> str | None:
        """The address paid to."""
        return address_of_script(self.script)


_NULL_TXID = "00" * 32


@dataclass(frozen=True)
class Transaction:
    """A transfer of coins. A coinbase has one input, from nowhere."""

    inputs: tuple[TxInput, ...]
    outputs: tuple[TxOutput, ...]
    version: int = 1
    locktime: int = 0

    @staticmethod
    def coinbase(height: int, note: str, value: int, script: bytes) -> Transaction:
        """The transaction that pays a block's miner."""
        text = f"Block {height} mined by {note}".encode()
        return Transaction((TxInput(Outpoint(_NULL_TXID, 0xFFFFFFFF), text),), (TxOutput(value, script),))

    @property
    def is_coinbase(self) -> bool:
        """Whether it makes new coins."""
        return len(self.inputs) == 1 and self.inputs[0].source.txid == _NULL_TXID

    @property
    def addresses(self) -> list[str]:
        """Return the addresses that it pays to."""
        return sorted({output.address for output in self.outputs if output.address is not None})

    @cached_property
    def raw(self) -> bytes:
        """Return the serialized transaction."""
        parts = [self.version.to_bytes(4, "little"), _size(len(self.inputs))]
        for item in self.inputs:
            parts += [
                bytes.fromhex(item.source.txid)[::-1],
                item.source.index.to_bytes(4, "little"),
                _size(len(item.script)),
                item.script,
                b"\xff\xff\xff\xff",
            ]
        parts.append(_size(len(self.outputs)))
        for output in self.outputs:
            parts += [output.value.to_bytes(8, "little"), _size(len(output.script)), output.script]
        parts.append(self.locktime.to_bytes(4, "little"))
        return b"".join(parts)

    @cached_property
    def txid(self) -> str:
        """The hash of the transaction."""
        return digest(self.raw)[::-1].hex()

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self.raw)

    @staticmethod
    def parse(data: bytes) -> Transaction:
        """Return the transaction in some bytes. Raise ValueError with the reason if they are not one."""
        reader = _Reader(data)
        version = reader.number(4, "uint32_t")
        inputs = []
        for _ in range(reader.size()):
            source = Outpoint(reader.take(32, "hash")[::-1].hex(), reader.number(4, "uint32_t"))
            inputs.append(TxInput(source, reader.take(reader.size(), "script")))
            reader.number(4, "uint32_t")
        outputs = []
        for _ in range(reader.size()):
            value = reader.number(8, "uint64_t")
            outputs.append(TxOutput(value, reader.take(reader.size(), "script")))
        locktime = reader.number(4, "uint32_t")
        if reader.left:
            raise ValueError(f"{reader.left} bytes behind the transaction")
        if not inputs or not outputs:
            raise ValueError("a transaction has inputs and outputs")
        return Transaction(tuple(inputs), tuple(outputs), version, locktime)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int, what: str) -> bytes:
        if self.left < size:
            raise ValueError(f"Insufficient data for {what}")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), "little")

    def size(self) -> int:
        first = self.number(1, "compact size")
        return first if first < 0xFD else self.number({0xFD: 2, 0xFE: 4, 0xFF: 8}[first], "compact size")


def _size(number: int) -> bytes:
    if number < 0xFD:
        return bytes((number,))
    return b"\xfd" + number.to_bytes(2, "little") if number < 0x10000 else b"\xfe" + number.to_bytes(4, "little")


@dataclass(frozen=True)
class BlockHeader:
    """The part of a block that is hashed for the proof of work."""

    version: int
    previous: str
    merkle: str
    time: int
    bits: int
    nonce: int

    @cached_property
    def raw(self) -> bytes:
        """Return the serialized header, 80 bytes."""
        return b"".join(
            (
                self.version.to_bytes(4, "little"),
                bytes.fromhex(self.previous)[::-1],
                bytes.fromhex(self.merkle)[::-1],
                self.time.to_bytes(4, "little"),
                self.bits.to_bytes(4, "little"),
                self.nonce.to_bytes(4, "little"),
            )
        )

    @cached_property
    def hash(self) -> str:
        """The block's hash."""
        return digest(self.raw)[::-1].hex()

    @property
    def has_work(self) -> bool:
        """Whether the hash is below the target."""
        return int(self.hash, 16) <= target_of_bits(self.bits)

    @property
    def work(self) -> int:
        """The mean number of hashes for such a block."""
        return (1 << 256) // (target_of_bits(self.bits) + 1)


@dataclass(frozen=True)
class Block:
    """A block at its height."""

    header: BlockHeader
    transactions: tuple[Transaction, ...]
    height: int

    @property
    def hash(self) -> str:
        """The hash of the block."""
        return self.header.hash

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self.header.raw) + len(_size(len(self.transactions))) + sum(tx.size for tx in self.transactions)

    @staticmethod
    def mine(previous: str, height: int, transactions: tuple[Transaction, ...], time: int, bits: int) -> Block:
        """Find the nonce that gives the header its work."""
        merkle = merkle_root([tx.txid for tx in transactions])
        nonce = 0
        while True:
            header = BlockHeader(4, previous, merkle, time, bits, nonce)
            if header.has_work:
                return Block(header, transactions, height)
            nonce += 1


def target_of_bits(bits: int) -> int:
    """Return the number that a compact target encodes."""
    return (bits & 0x7FFFFF) << (8 * ((bits >> 24) - 3))


def merkle_root(txids: list[str]) -> str:
    """Return the root of the Merkle tree of transaction ids. The last id is repeated if their number is odd."""
    level = [bytes.fromhex(txid)[::-1] for txid in txids]
    while len(level) > 1:
        level += level[-1:] * (len(level) % 2)
        level = [digest(level[at] + level[at + 1]) for at in range(0, len(level), 2)]
    return level[0][::-1].hex()
