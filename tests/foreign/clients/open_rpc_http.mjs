// client: @open-rpc/client-js | npm: @open-rpc/client-js | transport: HTTP | checks: calls, batch
import { Client, HTTPTransport, RequestManager } from "@open-rpc/client-js";
import assert from "assert";

const [url, user, password] = process.argv.slice(2);
const headers = { authorization: `Basic ${btoa(`${user}:${password}`)}` };
const node = new Client(new RequestManager([new HTTPTransport(url, { headers })]));
node.startBatch();
const batch = [node.request({ method: "getblockcount", params: [] }), node.request({ method: "getblockhash", params: [1] })];
node.stopBatch();
assert.equal((await Promise.all(batch))[1].length, 64);
console.log(await node.request({ method: "getblockcount", params: [] }));
