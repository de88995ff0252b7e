# client: aiorpcX | pip: aiorpcx[ws] | transport: WebSocket | checks: calls
import asyncio
import sys

sys.path.pop(0)
from aiorpcx import connect_ws


async def main(url: str) -> None:
    async with connect_ws(url) as session:
        print(await session.send_request("getblockcount"))


asyncio.run(main(sys.argv[1]))
