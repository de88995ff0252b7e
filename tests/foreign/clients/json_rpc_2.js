// client: json-rpc-2.0 | npm: json-rpc-2.0 | transport: HTTP | checks: calls, errors
const { JSONRPCClient } = require("json-rpc-2.0");
const assert = require("assert");
const [url, user, password] = process.argv.slice(2);
const headers = { "content-type": "application/json", authorization: `Basic ${btoa(`${user}:${password}`)}` };
const node = new JSONRPCClient(async (request) => {
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(request) });
  node.receive(await response.json());
});
(async () => {
  await assert.rejects(async () => node.request("getblockhash", [1e6]), { code: -8 });
  console.log(await node.request("getblockcount", []));
})();
