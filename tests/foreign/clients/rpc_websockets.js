// client: rpc-websockets | npm: rpc-websockets | transport: WebSocket | checks: calls, subscribe
const { Client } = require("rpc-websockets");
const node = new Client(process.argv[2]);
node.on("error", (error) => { throw error; });
node.on("open", async () => {
  const { topic } = await node.call("subscribe", { topic: "blocks" });
  if (topic !== "blocks") throw new Error(topic);
  console.log(await node.call("getblockcount"));
  node.close();
});
