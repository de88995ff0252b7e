"""Methods about hash time-locked contracts and swaps between chains, with the node's names, params and results."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

from ... import RpcTable
from ..htlc import HtlcTerms, htlc_of_script
from ..node import DevNode
from ..primitives import Outpoint, coins, decode_address, digest
from .chain_methods import failure
from .wallet_methods import to_ions

__all__ = ["register_swap_methods"]

_LEAST_TIMEOUT, _SWAP_TIMEOUT = 1, 144


def register_swap_methods(rpc: RpcTable, node: DevNode) -> None:
    """Add the methods to a table."""
    wallet, swaps = node.wallet, list[dict[str, Any]]()

    @rpc.method(permission="WRITE_WALLET")
    def generatepreimage() -> dict[str, str]:
        """Make a random preimage and its hash"""
        with node.lock:
            preimage = node.random_bytes(32)
        return {"preimage": preimage.hex(), "hash": digest(preimage).hex()}

    @rpc.method(permission="WRITE_WALLET")
    def createhtlc(amount: Decimal, recipient_address: str, hash_lock: str, timeout_blocks: int) -> dict[str, Any]:
        """Pay to the one who knows a preimage, or back after some blocks"""
        return _create(node, amount, recipient_address, hash_lock, timeout_blocks)

    @rpc.method(permission="WRITE_WALLET")
    def claimhtlc(htlc_txid: str, preimage: str, htlc_vout: int = 0) -> dict[str, Any]:
        """Spend a contract with its preimage"""
        with node.lock:
            terms = _terms(node, htlc_txid, htlc_vout)
            secret = wallet.secret_of(terms.claimer)
            if secret is None:
                raise failure("Wallet does not contain the claim key")
            if digest(_hex(preimage, "preimage")) != terms.hash_lock:
                raise failure("Preimage does not match hash lock")
            return _spend(node, Outpoint(htlc_txid, htlc_vout), secret + bytes.fromhex(preimage), terms.claimer)

    @rpc.method(permission="WRITE_WALLET")
    def refundhtlc(htlc_txid: str, htlc_vout: int = 0) -> dict[str, Any]:
        """Take a contract back after its timeout"""
        with node.lock:
            terms = _terms(node, htlc_txid, htlc_vout)
            if node.chain.height + 1 < terms.timeout:
                raise failure(f"HTLC timeout not yet reached (current: {node.chain.height}, timeout: {terms.timeout})")
            secret = wallet.secret_of(terms.refundee)
            if secret is None:
                raise failure("Wallet does not contain the refund key")
            return _spend(node, Outpoint(htlc_txid, htlc_vout), secret, terms.refundee)

    @rpc.method(permission="READ_BLOCKCHAIN")
    def decodehtlc(htlc_txid: str, vout: int = 0) -> dict[str, Any]:
        """Show the terms of a contract"""
        with node.lock:
            terms = _terms(node, htlc_txid, vout)
            coin = node.chain.coins[Outpoint(htlc_txid, vout)]
            height = node.chain.height
        claimer, refundee = decode_address(terms.claimer), decode_address(terms.refundee)
        assert claimer is not None
        assert refundee is not None
        return {
            "hash_lock": terms.hash_lock.hex(),
            "claim_pubkey_hash": claimer.hex(),
            "refund_pubkey_hash": refundee.hex(),
            "timeout_height": terms.timeout,
            "amount": coins(coin.output.value),
            "can_refund": height + 1 >= terms.timeout,
            "confirmations": height - coin.height + 1,
        }

    @rpc.method(permission="WRITE_WALLET")
    def initiateswap(
        their_chain: str,
        send_amount: Decimal,
        receive_amount: Decimal,
        their_claim_address: str,
        timeout_blocks: int = 2 * _SWAP_TIMEOUT,
    ) -> dict[str, Any]:
        """Begin a swap with a contract of our own"""
        preimage = generatepreimage()
        contract = _create(node, send_amount, their_claim_address, preimage["hash"], timeout_blocks)
        return _remember(
            "initiator",
            preimage["hash"],
            contract,
            {"preimage": preimage["preimage"], "their_chain": their_chain, "receive_amount": receive_amount},
        )

    @rpc.method(permission="WRITE_WALLET")
    def acceptswap(
        hash_lock: str,
        amount: Decimal,
        their_htlc_txid: str,
        their_claim_address: str,
        timeout_blocks: int = _SWAP_TIMEOUT,
    ) -> dict[str, Any]:
        """Answer a swap with a contract under the same hash"""
        contract = _create(node, amount, their_claim_address, hash_lock, timeout_blocks)
        return _remember("responder", hash_lock, contract, {"their_htlc_txid": their_htlc_txid})

    @rpc.method(permission="READ_WALLET")
    def listswaps() -> dict[str, Any]:
        """List the swaps that were begun or accepted here"""
        return {"swaps": list(swaps), "count": len(swaps)}

    def _remember(role: str, hash_lock: str, contract: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
        swap = {"swap_id": hash_lock[:16], "role": role, "hash_lock": hash_lock, **contract, **more}
        swaps.append({**swap, "state": "htlc_created", "created": int(time.time())})
        return swap


def _create(node: DevNode, amount: Decimal, recipient: str, hash_lock: str, blocks: int) -> dict[str, Any]:
    ions, lock = to_ions(amount), _hex(hash_lock, "hash_lock")
    if decode_address(recipient) is None:
        raise failure("Invalid recipient address")
    if blocks < _LEAST_TIMEOUT:
        raise failure("Missing or invalid timeout_blocks")
    with node.lock:
        if node.wallet.lock.is_locked:
            raise failure("Wallet is encrypted and locked. Unlock with walletpassphrase first.")
        terms = HtlcTerms(lock, recipient, node.wallet.addresses[0], node.chain.height + blocks)
        try:
            tx, fee = node.wallet.build_to_script(terms.script, ions)
            node.submit(tx)
        except ValueError as error:
            raise failure(f"Failed to create HTLC transaction: {error}") from None
    return {"txid": tx.txid, "timeout_height": terms.timeout, "amount": coins(ions), "fee": coins(fee)}


def _terms(node: DevNode, txid: str, index: int) -> HtlcTerms:
    _hex(txid, "htlc_txid")
    coin = node.chain.coins.get(Outpoint(txid, index))
    if coin is None:
        raise failure(f"HTLC UTXO not found (txid: {txid}, vout: {index})")
    terms = htlc_of_script(coin.output.script)
    if terms is None:
        raise failure("Output is not a valid HTLC script")
    return terms


def _spend(node: DevNode, source: Outpoint, proof: bytes, address: str) -> dict[str, Any]:
    try:
        tx, fee = node.wallet.spend(source, proof, address)
        node.submit(tx)
    except ValueError as error:
        raise failure(str(error)) from None
    return {"txid": tx.txid, "amount": coins(tx.outputs[0].value), "fee": coins(fee)}


def _hex(text: str, what: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != 32:
        raise failure(f"{what} must be 64 hex characters")
    return data
