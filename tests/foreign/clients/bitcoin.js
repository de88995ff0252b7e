// client: bitcoin (npm) | npm: bitcoin | transport: HTTP | checks: calls
const bitcoin = require("bitcoin");
const [text, user, pass] = process.argv.slice(2);
const url = new URL(text);
const node = new bitcoin.Client({ host: url.hostname, port: Number(url.port), user, pass, timeout: 10000 });
node.getBlockCount((error, count) => {
  if (error) throw error;
  console.log(count);
});
