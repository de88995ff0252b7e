// client: jayson | npm: jayson | transport: HTTP | checks: calls, batch, versions 1 and 2
const jayson = require("jayson/promise");
const assert = require("assert");

(async ([text, user, password]) => {
  const url = new URL(text);
  const options = { host: url.hostname, port: url.port, auth: `${user}:${password}` };
  assert.equal((await jayson.Client.http({ ...options, version: 1 }).request("getblockhash", [0])).result.length, 64);
  const node = jayson.Client.http(options);
  const batch = [node.request("getblockcount", [], undefined, false), node.request("getblockhash", [1], undefined, false)];
  assert.equal((await node.request(batch)).length, 2);
  console.log((await node.request("getblockcount", [])).result);
})(process.argv.slice(2));
