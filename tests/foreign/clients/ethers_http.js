// client: ethers | npm: ethers | transport: HTTP | checks: calls, batch
const { FetchRequest, JsonRpcProvider, Network } = require("ethers");
const [url, user, password] = process.argv.slice(2);
const request = new FetchRequest(url);
request.setCredentials(user, password);
request.allowInsecureAuthentication = true;
const node = new JsonRpcProvider(request, 1, { staticNetwork: Network.from(1) });
(async () => {
  const [hash, count] = await Promise.all([node.send("getblockhash", [1]), node.send("getblockcount", [])]);
  if (hash.length !== 64) throw new Error(hash);
  console.log(count);
  node.destroy();
})();
