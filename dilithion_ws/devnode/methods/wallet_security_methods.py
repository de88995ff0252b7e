"""Methods about the wallet's passphrase, seed and keys, with the node's names, params and results."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from ... import RpcTable
from ..mnemonic import seed_of_words, words_of_seed
from ..node import DevNode
from ..primitives import Transaction, coins, decode_address, digest
from .chain_methods import failure

__all__ = ["register_wallet_security_methods"]

_LONGEST_SECONDS = 86_400


def register_wallet_security_methods(rpc: RpcTable, node: DevNode) -> None:
    """Add the methods to a table."""
    wallet = node.wallet

    @rpc.method(permission="ADMIN_WALLET")
    def encryptwallet(passphrase: str) -> str:
        """Encrypt the wallet with a passphrase"""
        if not passphrase:
            raise failure("Passphrase cannot be empty")
        with node.lock:
            if wallet.lock.is_encrypted:
                raise failure("Wallet is already encrypted")
            wallet.lock.encrypt(passphrase)
        return "Wallet encrypted successfully. IMPORTANT: Backup your wallet and remember your passphrase!"

    @rpc.method(permission="ADMIN_WALLET")
    def walletpassphrase(passphrase: str, timeout: int = 60) -> str:
        """Unlock the wallet for some seconds"""
        with node.lock:
            _require_encryption(node)
            if not 0 <= timeout <= _LONGEST_SECONDS:
                raise failure(f"Timeout must be between 0 and {_LONGEST_SECONDS} seconds")
            if not wallet.lock.unlock(passphrase, timeout):
                raise failure("Error: The wallet passphrase entered was incorrect")
        return f"Wallet unlocked for {timeout} seconds" if timeout else "Wallet unlocked"

    @rpc.method(permission="ADMIN_WALLET")
    def walletlock() -> str:
        """Lock the wallet"""
        with node.lock:
            _require_encryption(node)
            wallet.lock.lock()
        return "Wallet locked"

    @rpc.method(permission="ADMIN_WALLET")
    def walletpassphrasechange(oldpassphrase: str, newpassphrase: str) -> str:
        """Change the passphrase of the wallet"""
        with node.lock:
            _require_encryption(node)
            if not newpassphrase or not wallet.lock.change(oldpassphrase, newpassphrase):
                raise failure("Error: The wallet passphrase entered was incorrect")
        return "Wallet passphrase changed successfully"

    @rpc.method(permission="READ_WALLET")
    def getwalletinfo() -> dict[str, Any]:
        """Get whether the wallet is encrypted and locked"""
        lock = wallet.lock
        return {"encrypted": lock.is_encrypted, "locked": lock.is_locked, "unlocked_until": int(not lock.is_locked)}

    @rpc.method(permission="WRITE_WALLET")
    def createhdwallet(passphrase: str = "") -> dict[str, str]:
        """Make a new wallet, in place of the present one"""
        with node.lock:
            seed = node.random_bytes(32)
            wallet.restore(seed)
            if passphrase:
                wallet.lock.encrypt(passphrase)
            return {"mnemonic": words_of_seed(seed), "address": wallet.addresses[0]}

    @rpc.method(permission="WRITE_WALLET")
    def restorehdwallet(mnemonic: str, passphrase: str = "") -> dict[str, Any]:
        """Restore a wallet from its words"""
        seed = seed_of_words(mnemonic)
        if seed is None:
            raise failure("Invalid mnemonic phrase")
        with node.lock:
            wallet.restore(seed)
            if passphrase:
                wallet.lock.encrypt(passphrase)
            return {"success": True, "address": wallet.addresses[0]}

    @rpc.method(permission="ADMIN_WALLET")
    def exportmnemonic() -> dict[str, str]:
        """Show the words of the wallet"""
        with node.lock:
            _require_unlocked(node)
            return {"mnemonic": words_of_seed(wallet.seed)}

    @rpc.method(permission="ADMIN_WALLET")
    def dumpprivkey(address: str) -> dict[str, str]:
        """Show the key of an address"""
        if decode_address(address) is None:
            raise failure(f"Invalid address: {address}")
        with node.lock:
            _require_unlocked(node)
            secret = wallet.secret_of(address)
        if secret is None:
            raise failure(f"Address not found in wallet: {address}")
        key, public = base64.b64encode(secret).decode(), base64.b64encode(digest(secret)).decode()
        return {"address": address, "privkey": key, "pubkey": public}

    @rpc.method(permission="ADMIN_WALLET")
    def importprivkey(privkey: str, pubkey: str) -> dict[str, Any]:
        """Add a key to the wallet"""
        try:
            secret, public = base64.b64decode(privkey, validate=True), base64.b64decode(pubkey, validate=True)
        except (binascii.Error, ValueError):
            raise failure("Invalid base64 encoding for privkey") from None
        if len(secret) != 32 or digest(secret) != public:
            raise failure("Key validation failed")
        with node.lock:
            _require_unlocked(node)
            address = wallet.add_secret(secret)
        if address is None:
            raise failure("Key already exists in wallet")
        return {"address": address, "success": True}

    @rpc.method(permission="WRITE_WALLET")
    def signrawtransaction(hex: str) -> dict[str, Any]:
        """Sign a transaction with the keys of the wallet"""
        try:
            tx = Transaction.parse(bytes.fromhex(hex))
        except ValueError as error:
            raise failure(f"Failed to deserialize transaction: {error}") from None
        with node.lock:
            _require_unlocked(node)
            signed, complete = wallet.sign(tx)
        return {"hex": signed.raw.hex(), "complete": complete}

    @rpc.method(permission="WRITE_WALLET")
    def consolidateutxos(max_inputs: int = 50, address: str | None = None) -> dict[str, Any]:
        """Join many small outputs of the wallet into one"""
        if not 2 <= max_inputs <= 200:
            raise failure("max_inputs must be between 2 and 200")
        with node.lock:
            _require_unlocked(node)
            before = len(wallet.coins())
            try:
                tx, fee, destination = wallet.join(max_inputs, address)
                node.submit(tx)
            except ValueError as error:
                raise failure(str(error)) from None
            return {
                "txid": tx.txid,
                "inputs_consolidated": len(tx.inputs),
                "total_utxos_before": before,
                "total_utxos_after": before - len(tx.inputs) + 1,
                "amount": coins(tx.outputs[0].value),
                "fee": coins(fee),
                "destination": destination,
                "tx_size": tx.size,
            }

    @rpc.method(permission="WRITE_WALLET")
    def clearwallettxs() -> dict[str, Any]:
        """Forget the payments that the wallet has recorded"""
        with node.lock:
            count = len(wallet.sent)
            wallet.sent.clear()
        return {"success": True, "transactions_cleared": count, "message": "Run rescanwallet to find them again"}


def _require_encryption(node: DevNode) -> None:
    if not node.wallet.lock.is_encrypted:
        raise failure("Wallet is not encrypted")


def _require_unlocked(node: DevNode) -> None:
    if node.wallet.lock.is_locked:
        raise failure("Wallet is encrypted and locked. Unlock with walletpassphrase first.")
