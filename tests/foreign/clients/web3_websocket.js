// client: web3.js | npm: web3 | transport: WebSocket | checks: calls
const { Web3, WebSocketProvider } = require("web3");
const node = new Web3(new WebSocketProvider(process.argv[2]));
node.requestManager.send({ method: "getblockcount", params: [] }).then((count) => {
  console.log(count);
  process.exit(0);
});
