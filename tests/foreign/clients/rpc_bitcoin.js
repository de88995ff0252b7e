// client: rpc-bitcoin | npm: rpc-bitcoin | transport: HTTP | checks: calls, batch, wallet, errors
const { RPCClient } = require("rpc-bitcoin");
const assert = require("assert");

(async ([text, user, pass]) => {
  const url = new URL(text);
  const node = new RPCClient({ url: `http://${url.hostname}`, port: url.port, timeout: 10000, user, pass, wallet: "a" });
  assert.equal(await node.getbalance({}), 50);
  const batch = [{ method: "getblockcount", id: 1 }, { method: "getblockhash", params: { height: 1 }, id: "two" }];
  assert.equal((await node.batch(batch)).length, 2);
  await assert.rejects(node.getblockhash({ height: 1e6 }));
  console.log(await node.getblockcount());
})(process.argv.slice(2));
