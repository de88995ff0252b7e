// client: @open-rpc/client-js | npm: @open-rpc/client-js | transport: WebSocket | checks: calls, subscribe
import { Client, RequestManager, WebSocketTransport } from "@open-rpc/client-js";
import assert from "assert";

const node = new Client(new RequestManager([new WebSocketTransport(process.argv[2])]));
assert.equal((await node.request({ method: "subscribe", params: { topic: "blocks" } })).topic, "blocks");
console.log(await node.request({ method: "getblockcount", params: [] }));
node.close();
