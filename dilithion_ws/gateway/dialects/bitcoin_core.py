"""The dialect of Bitcoin Core and its family (Litecoin Core and others): forwards params unchanged."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Dialect, permissions

__all__ = ["CORE"]

_PERMISSIONS = """
READ_BLOCKCHAIN: getbestblockhash getblock getblockchaininfo getblockcount getblockfilter getblockhash
    getblockheader getblockstats getchainstates getchaintips getchaintxstats getdeploymentinfo getdifficulty getindexinfo
    gettxout gettxoutproof verifytxoutproof getaddednodeinfo
    getaddrmaninfo getconnectioncount getnettotals getnetworkinfo getnodeaddresses getpeerinfo listbanned help uptime
    analyzepsbt combinepsbt combinerawtransaction converttopsbt createpsbt
    createrawtransaction decodepsbt decoderawtransaction decodescript finalizepsbt getrawtransaction joinpsbts
    testmempoolaccept utxoupdatepsbt createmultisig deriveaddresses estimaterawfee estimatesmartfee getdescriptorinfo
    validateaddress verifymessage
READ_MEMPOOL: getmempoolancestors getmempooldescendants getmempoolentry getmempoolinfo getrawmempool gettxspendingprevout
    getprioritisedtransactions getorphantxs
READ_MINING: getmininginfo getnetworkhashps
READ_WALLET: getaddressesbylabel getaddressinfo getbalance getbalances getreceivedbyaddress getreceivedbylabel
    gettransaction getunconfirmedbalance getwalletinfo listaddressgroupings listlabels listlockunspent
    listreceivedbyaddress listreceivedbylabel listsinceblock listtransactions listunspent listwalletdir listwallets
    listwallettransactions simulaterawtransaction
WRITE_WALLET: abandontransaction abortrescan addmultisigaddress bumpfee fundrawtransaction getnewaddress
    getrawchangeaddress importaddress importpubkey keypoolrefill lockunspent psbtbumpfee rescanblockchain send sendall
    sendmany sendtoaddress setlabel settxfee setwalletflag signmessage signmessagewithprivkey
    signrawtransactionwithkey signrawtransactionwithwallet walletcreatefundedpsbt walletdisplayaddress walletprocesspsbt
WRITE_MEMPOOL: sendrawtransaction submitpackage
CONTROL_MINING: getblocktemplate generateblock generatetoaddress generatetodescriptor submitblock submitheader
CONTROL_NETWORK: addnode clearbanned getblockfrompeer disconnectnode ping setban setnetworkactive
ADMIN_WALLET: backupwallet createwalletdescriptor dumpprivkey dumpwallet encryptwallet gethdkeys
    importdescriptors importmulti importprivkey importprunedfunds importwallet listdescriptors
    newkeypool removeprunedfunds sethdseed upgradewallet walletlock walletpassphrase walletpassphrasechange
ADMIN_WALLET|ADMIN_SERVER: createwallet loadwallet migratewallet restorewallet unloadwallet
ADMIN_SERVER: stop dumptxoutset getmemoryinfo invalidateblock loadtxoutset logging preciousblock prioritisetransaction
    pruneblockchain reconsiderblock savemempool setmocktime syncwithvalidationinterfacequeue importmempool
    gettxoutsetinfo scanblocks scantxoutset verifychain getrpcinfo getzmqnotifications
"""


_SLOW = """rescanblockchain importaddress importdescriptors importmulti importprivkey importpubkey importwallet
importprunedfunds encryptwallet walletpassphrase walletpassphrasechange signrawtransaction
signrawtransactionwithkey signrawtransactionwithwallet walletprocesspsbt sendrawtransaction sendtoaddress sendmany
send sendall loadwallet createwallet
restorewallet migratewallet upgradewallet backupwallet dumpwallet keypoolrefill gettxoutsetinfo scantxoutset
scanblocks verifychain dumptxoutset loadtxoutset invalidateblock reconsiderblock generatetoaddress generatetodescriptor
pruneblockchain getblocktemplate submitblock savemempool importmempool"""
_SLOW_SECONDS = 300.0
_TIP_READS = """getblockcount getbestblockhash getblockhash getblockheader getblock getblockstats getblockfilter
getdifficulty getchaintxstats gettxoutsetinfo getdeploymentinfo"""


class _Core(Dialect):
    name = "core"
    headers: Mapping[str, str] = {}
    version = b"1.0"
    """So that errors and results have one form in all versions of the family."""
    can_wait = True
    permissions = permissions(_PERMISSIONS)
    tip_reads = frozenset(_TIP_READS.split())
    timeouts = dict.fromkeys(_SLOW.split(), _SLOW_SECONDS)


CORE = _Core()
