// client: viem | npm: viem | transport: HTTP | checks: calls, batch
const { createClient, http } = require("viem");
const assert = require("assert");
const [url, user, password] = process.argv.slice(2);
const headers = { authorization: `Basic ${btoa(`${user}:${password}`)}` };
const connect = (batch) => createClient({ transport: http(url, { batch, fetchOptions: { headers }, retryCount: 0 }) });
(async () => {
  const batch = connect(true);
  const calls = [batch.request({ method: "getblockcount", params: [] }), batch.request({ method: "getblockhash", params: [1] })];
  assert.equal((await Promise.all(calls))[1].length, 64);
  console.log(await connect(false).request({ method: "getblockcount", params: [] }));
})();
