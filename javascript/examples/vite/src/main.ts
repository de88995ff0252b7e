import { Client, EventsLostError } from 'dilithion-ws';

const client = new Client('ws://localhost:8333');
const element = (id: string): HTMLElement => document.getElementById(id) as HTMLElement;

/** Show the transactions that wait, and keep them up to date by the events after that state. */
async function show(): Promise<void> {
  const { result, position } = await client.callWithPosition('getrawmempool');
  const waiting = new Set<string>(result as string[]);
  const draw = (): void => {
    element('count').textContent = String(waiting.size);
    element('list').replaceChildren(...[...waiting].map((txid) => Object.assign(document.createElement('li'), { textContent: txid })));
  };
  draw();
  for await (const { data } of client.subscribe('mempool', { since: position ?? undefined })) {
    if (data.kind === 'added') waiting.add(data.txid);
    else if (data.kind === 'removed') waiting.delete(data.txid);
    else for (const txid of data.txids) waiting.delete(txid);
    draw();
  }
}

for (;;) {
  try {
    await show();
    break;
  } catch (error) {
    if (!(error instanceof EventsLostError)) throw error; // otherwise the state is read again
  }
}
