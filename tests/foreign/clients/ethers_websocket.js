// client: ethers | npm: ethers | transport: WebSocket | checks: calls
const { Network, WebSocketProvider } = require("ethers");
const node = new WebSocketProvider(process.argv[2], 1, { staticNetwork: Network.from(1) });
node.send("getblockcount", []).then((count) => {
  console.log(count);
  process.exit(0);
});
