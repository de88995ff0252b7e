// client: bitcoin-core | npm: bitcoin-core | transport: HTTP | checks: calls, batch, wallet, errors
const Client = require("bitcoin-core");
const assert = require("assert");

(async ([host, username, password]) => {
  const node = new Client({ host, username, password, wallet: "a" });
  assert.equal(await node.getBalance(), 50);
  const batch = await node.command([{ method: "getblockcount" }, { method: "getblockhash", parameters: [1] }]);
  assert.equal(batch.length, 2);
  await assert.rejects(node.getBlockHash(1e6), { code: -8 });
  console.log(await node.getBlockCount());
})(process.argv.slice(2));
