// Prints each payment to an address once it has enough confirmations, and goes on where it was after a restart.
//
//     node bot.mjs ws://localhost:8333 ADDRESS [CONFIRMATIONS]
import { readFile, rename, writeFile } from 'node:fs/promises';
import { Client, EventsLostError } from 'dilithion-ws';

const [url, address, confirmations = '6'] = process.argv.slice(2);
const file = process.env.BOT_STATE ?? `${address}.json`;
const WebSocket = globalThis.WebSocket ?? (await import('ws')).WebSocket;

const client = new Client(url, { WebSocket, token: process.env.BOT_TOKEN, exact: true });
client.addEventListener('state', () => console.error(`# ${client.state} ${client.reason ?? ''}`));

const since = await readFile(file, 'utf8').then(JSON.parse, () => undefined);
const payments = client.subscribe('transactions', {
  filter: { address, confirmations: Number(confirmations) },
  since,
});
for (;;) {
  try {
    for await (const { data, since } of payments) {
      if (data.kind === 'unconfirmed') console.log(`${data.txid} was taken back by a reorganisation`);
      if (data.kind === 'confirmed' && data.confirmations === Number(confirmations)) {
        console.log(`${data.txid} has ${data.confirmations} confirmations, in block ${data.height}`);
      }
      await writeFile(`${file}.new`, JSON.stringify(since));
      await rename(`${file}.new`, file); // the file is never half written
    }
    break;
  } catch (error) {
    if (!(error instanceof EventsLostError)) throw error;
    console.error(`# ${error.message}: look at the address by hand`);
  }
}
