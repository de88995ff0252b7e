// client: bitcoind-rpc | npm: bitcoind-rpc | transport: HTTP | checks: calls, batch
const RpcClient = require("bitcoind-rpc");
const [url, user, password] = process.argv.slice(2);
const node = new RpcClient(url.replace("://", `://${user}:${password}@`));

const fill = () => { node.getBlockCount(); node.getBlockHash(1); };
node.batch(fill, (error, answers) => {
  if (error || answers.length !== 2 || answers[1].result.length !== 64) throw new Error(`batch: ${error} ${answers}`);
  node.getBlockCount((error, answer) => {
    if (error) throw error;
    console.log(answer.result);
  });
});
