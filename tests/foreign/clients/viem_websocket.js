// client: viem | npm: viem | transport: WebSocket | checks: calls
const { createClient, webSocket } = require("viem");
const node = createClient({ transport: webSocket(process.argv[2], { retryCount: 0 }) });
node.request({ method: "getblockcount", params: [] }).then((count) => {
  console.log(count);
  process.exit(0);
});
