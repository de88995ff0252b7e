"""A wallet: addresses from one seed, balances from the chain, payments from its coins.

The right to spend is a secret whose hash is the address; showing it is all there is to a signature here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from .chain import MATURITY, Chain, Coin
from .mempool import MINIMUM_FEE_RATE, Mempool
from .primitives import Block, Outpoint, Transaction, TxInput, TxOutput, digest, encode_address, script_of_address
from .wallet_lock import WalletLock

__all__ = ["Balance", "Wallet"]

DUST = 50_000
_SCRIPT_SIZE = 25
"""Bytes of the script that pays to an address."""


@dataclass(frozen=True)
class Balance:
    """Amounts in ions: spendable, unconfirmed, and of immature coinbases."""

    available: int
    unconfirmed: int
    immature: int


class Wallet:
    """The wallet of the node. Not thread-safe: the node holds its lock around every use."""

    def __init__(self, seed: bytes, chain: Chain, mempool: Mempool) -> None:
        self.seed = seed
        self._chain = chain
        self._mempool = mempool
        self._secrets: dict[str, bytes] = {}
        self.addresses: list[str] = []
        self.sent: dict[str, tuple[str, int, int]] = {}  # by transaction: address, amount and fee of a payment
        self.lock = WalletLock(time.monotonic)
        self.new_address()

    def restore(self, seed: bytes) -> None:
        """Use the addresses of another seed, without a passphrase."""
        self.seed = seed
        self._secrets.clear()
        self.addresses.clear()
        self.sent.clear()
        self.lock.decrypt()
        self.new_address()

    def secret_of(self, address: str) -> bytes | None:
        """Return the key of an address, or None."""
        return self._secrets.get(address)

    def add_secret(self, secret: bytes) -> str | None:
        """Add a key, and return its address. None if the wallet has it already."""
        address = encode_address(digest(secret)[:20])
        if address in self._secrets:
            return None
        self._secrets[address] = secret
        self.addresses.append(address)
        return address

    def new_address(self) -> str:
        """Return a new address, m/44'/573'/0'/0'/i' with the next i."""
        secret = digest(self.seed + len(self.addresses).to_bytes(4, "big"))
        address = encode_address(digest(secret)[:20])
        self._secrets[address] = secret
        self.addresses.append(address)
        return address

    def owns(self, address: str | None) -> bool:
        """Return whether an address belongs to the wallet."""
        return address in self._secrets

    def coins(self) -> list[tuple[Outpoint, Coin]]:
        """Return the unspent outputs, oldest first, without those that an unconfirmed transaction spends."""
        mine = [
            (source, coin)
            for source, coin in self._chain.coins.items()
            if self.owns(coin.output.address) and not self._mempool.is_spent(source)
        ]
        return sorted(mine, key=lambda item: (item[1].height, item[0]))

    def is_mature(self, coin: Coin) -> bool:
        """Return whether the next block may spend an output."""
        return not coin.coinbase or self._chain.height + 1 - coin.height >= MATURITY

    def balance(self) -> Balance:
        """Return the balance."""
        coins = [coin for _, coin in self.coins()]
        waiting = sum(
            output.value
            for entry in self._mempool.entries.values()
            for output in entry.tx.outputs
            if self.owns(output.address)
        )
        mature = sum(coin.output.value for coin in coins if self.is_mature(coin))
        return Balance(mature, waiting, sum(coin.output.value for coin in coins) - mature)

    def build(self, address: str, amount: int, source: str | None = None) -> tuple[Transaction, int]:
        """Return a payment and its fee in ions. Raise ValueError with the node's message if it is not possible."""
        script = script_of_address(address)
        if script is None:
            raise ValueError(f"Invalid Dilithion address: {address}")
        return self.build_to_script(script, amount, source)

    def build_to_script(self, script: bytes, amount: int, source: str | None = None) -> tuple[Transaction, int]:
        """Return a payment to a script, and its fee. See `build`."""
        if self.lock.is_locked:
            raise ValueError("Wallet is encrypted and locked. Unlock with walletpassphrase first.")
        chosen: list[tuple[Outpoint, Coin]] = []
        extra = max(0, len(script) - _SCRIPT_SIZE) * MINIMUM_FEE_RATE
        total, fee = 0, _fee(1) + extra
        for item in self.coins():
            if total >= amount + fee:
                break
            if self.is_mature(item[1]) and source in (None, item[1].output.address):
                chosen.append(item)
                total += item[1].output.value
                fee = _fee(len(chosen)) + extra
        if not chosen:
            raise ValueError("Failed to create transaction: No spendable outputs available")
        if total < amount + fee:
            have, need = total / 1e8, (amount + fee) / 1e8
            raise ValueError(f"Insufficient balance. Have {have:.6f} DIL, need {need:.6f} DIL (amount + fee)")
        outputs = [TxOutput(amount, script)]
        if total - amount - fee >= DUST:
            change = script_of_address(self.addresses[0])
            assert change is not None
            outputs.append(TxOutput(total - amount - fee, change))
        else:
            fee = total - amount
        inputs = tuple(TxInput(at, self._secrets[coin.output.address or ""]) for at, coin in chosen)
        return Transaction(inputs, tuple(outputs)), fee

    def spend(self, source: Outpoint, proof: bytes, address: str) -> tuple[Transaction, int]:
        """Return a transaction that moves one output to an address, and its fee. Raise ValueError if it is too small."""
        value, fee = self._chain.coins[source].output.value, _fee(1) + 2 * len(proof)
        script = script_of_address(address)
        if value - fee < DUST or script is None:
            raise ValueError("Output is too small to be spent")
        return Transaction((TxInput(source, proof),), (TxOutput(value - fee, script),)), fee

    def join(self, most: int, address: str | None) -> tuple[Transaction, int, str]:
        """Return a transaction that joins the smallest outputs, its fee, and where it pays to."""
        destination = address or self.addresses[0]
        script = script_of_address(destination)
        if script is None:
            raise ValueError(f"Invalid destination address: {destination}")
        ready = [item for item in self.coins() if self.is_mature(item[1])]
        chosen = sorted(ready, key=lambda item: item[1].output.value)[:most]
        if len(chosen) < 2:
            raise ValueError("Nothing to consolidate (0 or 1 UTXOs free; others may be locked by in-flight txs)")
        fee = _fee(len(chosen))
        amount = sum(coin.output.value for _, coin in chosen) - fee
        if amount < DUST:
            raise ValueError("Consolidated output would be dust. Need more value in UTXOs.")
        inputs = tuple(TxInput(at, self._secrets[coin.output.address or ""]) for at, coin in chosen)
        return Transaction(inputs, (TxOutput(amount, script),)), fee, destination

    def sign(self, tx: Transaction) -> tuple[Transaction, bool]:
        """Return a transaction with the proofs that the wallet can give, and whether it has all of them."""
        view, complete, inputs = self._mempool.view(), True, []
        for item in tx.inputs:
            coin = view.get(item.source)
            secret = None if coin is None else self._secrets.get(coin.output.address or "")
            complete = complete and bool(secret or item.script)
            inputs.append(TxInput(item.source, secret or item.script))
        return Transaction(tuple(inputs), tx.outputs, tx.version, tx.locktime), complete

    def history(self) -> list[tuple[str, str, int, int | None, Transaction, Block]]:
        """Return the confirmed transactions, newest first: category, address, amount, fee, transaction, block."""
        found: list[tuple[str, str, int, int | None, Transaction, Block]] = []
        for block in reversed(self._chain.active):
            for tx in reversed(block.transactions):
                if tx.txid in self.sent:
                    address, amount, fee = self.sent[tx.txid]
                    found.append(("send", address, -amount, -fee, tx, block))
                    continue
                for output in tx.outputs:
                    if self.owns(output.address):
                        found.append(("receive", output.address or "", output.value, None, tx, block))
        return found


def _fee(inputs: int) -> int:
    size = 10 + inputs * (41 + 32) + 2 * 34
    return size * MINIMUM_FEE_RATE
