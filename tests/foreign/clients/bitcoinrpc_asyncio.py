# client: bitcoinrpc (asyncio) | pip: bitcoinrpc | transport: HTTP | checks: calls, errors
import asyncio
import sys

from bitcoinrpc import BitcoinRPC, RPCError


async def main(url: str, user: str, password: str) -> None:
    async with BitcoinRPC.from_config(url, (user, password)) as node:
        try:
            await node.getblockhash(10**6)
            raise SystemExit("no error")
        except RPCError:
            pass
        print(await node.getblockcount())


asyncio.run(main(*sys.argv[1:]))
