// client: @polkadot/rpc-provider | npm: @polkadot/rpc-provider | transport: WebSocket | checks: calls
import { WsProvider } from "@polkadot/rpc-provider";

const node = new WsProvider(process.argv[2]);
await node.isReady;
console.log(await node.send("getblockcount", []));
await node.disconnect();
