// client: @polkadot/rpc-provider | npm: @polkadot/rpc-provider | transport: WebSocket | checks: calls, subscribe
import { WsProvider } from "@polkadot/rpc-provider";

const node = new WsProvider(process.argv[2]);
await node.isReady;
const height = await node.send("getblockcount", []);
const forms = ["dilithion_subscription", "dilithion_subscribe", "dilithion_unsubscribe"];
let received;
const event = new Promise((resolve) => { received = resolve; });
const id = await node.subscribe(forms[0], forms[1], ["blocks"], (error, result) => received(error ?? result));
if (process.argv[5] === "wait") {
  console.log(id);
  console.log(JSON.stringify(await event));
}
if (!(await node.unsubscribe(forms[0], forms[2], id))) throw new Error("there was no subscription");
await node.disconnect();
console.log(height);
