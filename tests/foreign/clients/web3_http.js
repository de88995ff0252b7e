// client: web3.js | npm: web3 | transport: HTTP | checks: calls
const { HttpProvider, Web3 } = require("web3");
const [url, user, password] = process.argv.slice(2);
const headers = { authorization: `Basic ${btoa(`${user}:${password}`)}` };
const node = new Web3(new HttpProvider(url, { providerOptions: { headers } }));
node.requestManager.send({ method: "getblockcount", params: [] }).then(console.log);
